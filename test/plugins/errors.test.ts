import t from 'tap';
import { EngineError } from '../../src/services/engines/engine-error.js';
import { QueueUnavailable } from '../../src/services/queue/index.js';
import { build } from '../helpers/build.js';

const failing = {
  status: () => {
    throw new Error('not asked');
  },
  statuses: () => [],
  has: () => false,
  restart: () => Promise.resolve(),
  logs: () => [],
};

t.test('every error has one shape', async (t) => {
  const { call, inject } = await build(t);
  t.match(
    (await inject({ url: '/nowhere?key=secret' })).json(),
    { statusCode: 404, code: 'NOT_FOUND', message: '/nowhere was not found' },
    'query strings are not echoed',
  );
  const wrongMethod = await inject({ method: 'PUT', url: '/jobs' });
  t.match(wrongMethod.json(), { statusCode: 405, code: 'METHOD_NOT_ALLOWED' });
  t.equal(wrongMethod.headers['allow'], 'GET, HEAD, POST');
  t.equal((await inject({ method: 'PUT', url: '/jobs/x' })).headers['allow'], 'GET, HEAD, DELETE');
  t.match(
    (await inject({ url: '/jobs/%zz' })).json(),
    { statusCode: 400, code: 'BAD_REQUEST' },
    'a path that cannot be decoded',
  );
  t.match((await call('GET', '/jobs/not-a-uuid')).json(), {
    statusCode: 400,
    code: 'INVALID_PARAMETERS',
    details: [{ field: 'id', rule: 'format' }],
  });
  t.match((await call('GET', '/jobs/5d0c2f6e-8f0e-4a55-9d5b-6f1f0c9f7a10')).json(), {
    statusCode: 404,
    code: 'NOT_FOUND',
  });
  t.match((await call('GET', `/worker/${'x'.repeat(5000)}/logs`)).json(), {
    statusCode: 414,
    code: 'ADDRESS_TOO_LONG',
  });
});

t.test('what has no route is refused before its body is read', async (t) => {
  const { inject } = await build(t);
  const headers = { 'content-type': 'application/json' };
  for (const [method, url, code] of [
    ['QUERY', '/worker/validate', 'METHOD_NOT_ALLOWED'],
    ['PUT', '/jobs', 'METHOD_NOT_ALLOWED'],
    ['POST', '/nowhere', 'NOT_FOUND'],
  ] as const) {
    for (const request of [
      { headers: {} },
      { headers, payload: '{"a": no' },
      { headers, payload: 'x'.repeat(2 ** 21) },
    ]) {
      // Newer than the helper's list of methods.
      const answer = await inject({ ...request, method, url });
      t.match(answer.json(), { code }, `${method} ${url}, ${request.payload?.length ?? 0} bytes`);
    }
  }
});

t.test('query parameters: text becomes numbers, defaults are filled in, rules are named', async (t) => {
  const { call } = await build(t);
  t.equal((await call('GET', '/jobs?limit=5&status=queued&type=video_fast')).statusCode, 200);
  for (const [query, field, rule] of [
    ['limit=0', 'limit', 'minimum'],
    ['limit=101', 'limit', 'maximum'],
    ['limit=many', 'limit', 'type'],
    ['status=lost', 'status', 'enum'],
    ['type=x', 'type', 'enum'],
    ['user_id=x', 'user_id', 'format'],
    ['cursor=', 'cursor', 'minLength'],
  ] as const) {
    t.match(
      (await call('GET', `/jobs?${query}`)).json(),
      { statusCode: 400, details: [{ field, rule }] },
      query,
    );
  }
  t.match((await call('POST', '/worker/restart/sdxl?force=maybe')).json(), {
    details: [{ field: 'force', rule: 'type' }],
  });
  t.match((await call('GET', '/worker/status?scope=galaxy')).json(), {
    details: [{ field: 'scope', rule: 'enum' }],
  });
});

t.test('an empty body is none', async (t) => {
  const { call } = await build(t);
  const answer = await call('DELETE', '/jobs/5d0c2f6e-8f0e-4a55-9d5b-6f1f0c9f7a10', undefined, {
    'content-type': 'application/json',
  });
  t.equal(answer.statusCode, 404);
});

t.test('text of unforeseen errors is never sent, the request id is', async (t) => {
  const refused = Object.assign(new Error('connect ECONNREFUSED 10.0.0.7:80'), { code: 'ECONNREFUSED' });
  for (const error of [new Error('password=hunter2'), refused]) {
    const { app, call } = await build(t, {
      services: { jobs: { list: () => Promise.reject(error) } as never },
    });
    const answer = await app.inject({
      url: '/jobs',
      headers: { authorization: 'Bearer key-of-the-app-under-test', 'x-request-id': 'mine-1' },
    });
    t.match(
      answer.json(),
      { statusCode: 500, code: 'INTERNAL', request_id: 'mine-1' },
      'nobody else is blamed',
    );
    t.notMatch(answer.payload, /hunter2|ECONNREFUSED|queue/);
    t.equal((await call('GET', '/capabilities')).statusCode, 200, 'and the next request is answered');
  }
});

t.test("request ids: a caller's own is kept when it is harmless", async (t) => {
  const { inject } = await build(t);
  t.equal(
    (await inject({ url: '/health', headers: { 'x-request-id': 'trace-7' } })).headers['x-request-id'],
    'trace-7',
  );
  for (const id of ['a b', 'x'.repeat(65), '{"a":1}', 'ä'])
    t.not(
      (await inject({ url: '/health', headers: { 'x-request-id': id } })).headers['x-request-id'],
      id,
      'another one is made',
    );
});

t.test('parts that do not answer are 503 with a time to come back, without their words', async (t) => {
  const refused = Object.assign(new Error('connect ECONNREFUSED 10.0.0.7:6379'), { code: 'ECONNREFUSED' });
  for (const error of [
    new QueueUnavailable(refused),
    new EngineError('engine_failed', 'the engine died: signal SIGKILL'),
  ]) {
    const { call } = await build(t, {
      services: { engines: { ...failing, describePrompt: () => Promise.reject(error) } },
    });
    const answer = await call('POST', '/test-compel', { prompt: 'x' });
    t.match(answer.json(), { statusCode: 503, code: 'UNAVAILABLE' }, error.message);
    t.match(answer.headers['retry-after'], /^\d+$/);
    t.notMatch(answer.payload, /10\.0\.0\.7|SIGKILL/);
  }
  const { call } = await build(t, {
    services: {
      engines: {
        ...failing,
        describePrompt: () =>
          Promise.reject(new EngineError('invalid_parameters', 'prompt has no tokens', { field: 'prompt' })),
      },
    },
  });
  t.match((await call('POST', '/test-compel', { prompt: 'x' })).json(), {
    statusCode: 400,
    details: [{ field: 'prompt', rule: 'engine' }],
  });
});
