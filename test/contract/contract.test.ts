import Fastify from 'fastify';
import t from 'tap';
import { listOperations, readDocument, type Schema } from '../../src/contract/document.js';
import { createContract } from '../../src/contract/routes.js';
import { createContractValidator } from '../../src/contract/validator.js';
import { build } from '../helpers/build.js';

const served = [{ operationId: 'getDocs' as const, below: '/docs' }];
const health = { status: 'healthy' as const, qwen_loaded: false, timestamp: 1, worker_ready: true };

t.test('the app has a route for every operation and no other', async (t) => {
  const { app } = await build(t);
  for (const { method, url, operationId } of listOperations(readDocument())) {
    t.ok(app.hasRoute({ method: method.toUpperCase(), url }), `${operationId}: ${method} ${url}`);
  }
});

t.test('an app whose routes and operations differ does not start', async (t) => {
  const withoutOperations = Fastify();
  const contract = createContract();
  contract.requireCompleteness(withoutOperations, { served });
  contract.register(withoutOperations, 'open', { getHealth: () => health });
  await t.rejects(
    async () => withoutOperations.ready(),
    /createJob of openapi.yaml has no route/,
    'an operation without a route',
  );

  const withExtras = Fastify();
  createContract().requireCompleteness(withExtras, { served });
  withExtras.get('/secret', () => 'x');
  await t.rejects(
    async () => withExtras.ready(),
    /GET \/secret is not in openapi.yaml/,
    'a route without an operation',
  );
});

t.test('open and protected operations cannot change places', async (t) => {
  t.throws(
    () => createContract().register(Fastify(), 'protected', { getHealth: () => health }),
    /getHealth is open/,
  );
  t.throws(
    () =>
      createContract().register(Fastify(), 'open', {
        getCapabilities: () => {
          throw new Error('not reached');
        },
      }),
    /getCapabilities is protected/,
  );
});

t.test('every operation that needs a key names what the key must be allowed to do', async (t) => {
  const withoutScope = listOperations(readDocument()).filter(({ open, scope }) => !open && scope === null);
  t.same(
    withoutScope.map(({ operationId }) => operationId),
    ['getCapabilities', 'createToken'],
    'what says nothing of anybody, and what gives away no more than the key has',
  );
});

t.test('every example of the contract is valid', async (t) => {
  const document = readDocument();
  const validator = createContractValidator(document);
  let checked = 0;
  for (const item of Object.values(document.paths)) {
    for (const operation of [item.post, item.get, item.delete]) {
      const media = operation?.requestBody?.content['application/json'] as
        { schema: Schema; examples?: Record<string, { value: unknown }> } | undefined;
      for (const [name, { value }] of Object.entries(media?.examples ?? {})) {
        t.same(
          validator.forBody((media as { schema: Schema }).schema)(value),
          [],
          `${operation?.operationId}: ${name}`,
        );
        checked += 1;
      }
    }
  }
  t.ok(checked >= 3, `${checked} examples`);
});

t.test('response schemas allow no extra fields, and every operation declares 4XX', async (t) => {
  const document = readDocument();
  for (const { operationId, responses } of listOperations(document)) {
    t.ok('4XX' in responses, `${operationId} declares errors`);
    for (const [status, { content }] of Object.entries(responses)) {
      const schema = content?.['application/json']?.schema;
      const name = typeof schema?.['$ref'] === 'string' ? (schema['$ref'].split('/').at(-1) ?? '') : '';
      const resolved = name === '' ? schema : document.components.schemas[name];
      if (resolved !== undefined)
        t.equal(resolved['additionalProperties'], false, `${operationId} ${status} ${name}`);
    }
  }
});
