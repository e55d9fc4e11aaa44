import t from 'tap';
import { createContractChecker } from '../helpers/assert-contract.js';

const { check } = createContractChecker();
const headers = { 'x-request-id': 'a', 'content-type': 'application/json; charset=utf-8' };
const health = { status: 'healthy', qwen_loaded: false, timestamp: 1.5, worker_ready: true };
const answer = (body: unknown, statusCode = 200, more: Record<string, string> = {}) => ({
  statusCode,
  headers: { ...headers, ...more },
  payload: typeof body === 'string' ? body : JSON.stringify(body),
});
const error = {
  statusCode: 404,
  code: 'NOT_FOUND',
  error: 'Not Found',
  message: 'x does not exist',
  request_id: 'a',
};

t.test('the checker of all HTTP tests sees what it must', async (t) => {
  t.same(check('GET', '/health', answer(health)), [], 'a right answer');
  t.match(
    check('GET', '/health', answer({ ...health, extra: 1 })),
    [/must not have extra/],
    'an extra field',
  );
  t.match(
    check('GET', '/health', answer({ ...health, timestamp: '1' })),
    [/timestamp must be number/],
    'a wrong type',
  );
  t.match(
    check('GET', '/health', answer({ ...health, worker_ready: undefined })),
    [/worker_ready is missing/],
    'a missing field',
  );
  t.match(
    check('GET', '/health', answer(health, 201)),
    [/does not declare status 201/],
    'an undeclared status',
  );
  t.match(
    check('GET', '/health', answer({ ...error, statusCode: 500 }, 500)),
    [/does not declare status 500/],
    'a crash',
  );
  t.match(
    check('GET', '/health', answer('ok', 200, { 'content-type': 'text/plain' })),
    [/content type text\/plain is not declared/],
    'another content type',
  );
  t.match(
    check('GET', '/health', { ...answer(health), headers: { 'content-type': 'application/json' } }),
    [/no x-request-id/],
    'no request id',
  );
  t.match(check('GET', '/health', answer('')), [/must be object/], 'no body');
  t.same(check('GET', '/jobs/x', answer(error, 404)), [], 'an error in its shape');
  t.match(
    check('GET', '/jobs/x', answer({ message: 'no' }, 404)),
    [/statusCode is missing/],
    'an error in another shape',
  );
  t.match(
    check('GET', '/nowhere', answer({}, 200)),
    [/no operation declares GET \/nowhere/],
    'a route of its own',
  );
  t.match(
    check(
      'POST',
      '/jobs',
      answer({ id: '5d0c2f6e-8f0e-4a55-9d5b-6f1f0c9f7a10', status: 'queued', queue_position: 0 }, 202),
    ),
    [/header location is missing/],
    'a missing header',
  );
  t.match(
    check('DELETE', '/enhance/sessions/a', answer('{}', 204)),
    [/should have no body/],
    'a body where none belongs',
  );
});

t.test('events are held against their schemas', async (t) => {
  const stream = (text: string) => ({
    statusCode: 200,
    headers: { ...headers, 'content-type': 'text/event-stream' },
    payload: text,
  });
  const url = '/jobs/5d0c2f6e-8f0e-4a55-9d5b-6f1f0c9f7a10/events';
  t.same(
    check(
      'GET',
      url,
      stream(': hello\n\nid: 1\nevent: state\ndata: {"status":"queued","attempts":0,"assets":[]}\n\n'),
    ),
    [],
  );
  t.match(check('GET', url, stream('event: state\ndata: {"status":"lost","attempts":0,"assets":[]}\n\n')), [
    /status must be one of/,
  ]);
  t.match(check('GET', url, stream('event: surprise\ndata: {}\n\n')), [/event surprise is not declared/]);
});
