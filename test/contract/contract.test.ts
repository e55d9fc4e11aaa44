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
    ['getCapabilities', 'createToken', 'getSession', 'createSession', 'deleteSession', 'createLoginLink'],
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

t.test('every pattern says in words what must hold; no message shows a regular expression', async (t) => {
  const document = readDocument();
  const validator = createContractValidator(document);
  const found: Schema[] = [];
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    if ('pattern' in value && typeof value.pattern === 'string') found.push(value);
    for (const inner of Object.values(value)) walk(inner);
  };
  walk(document);
  t.ok(found.length >= 5, `${found.length} patterns`);
  for (const schema of found) {
    t.match(schema['x-must'], /^(not )?be /, String(schema['pattern']));
    const [problem] = validator.forBody(schema)(' ');
    t.equal(problem?.message, `body must ${String(schema['x-must'])}`);
  }
});

t.test('every rule that openapi.yaml has for what comes in has a sentence', async (t) => {
  const document = readDocument();
  const broken: Array<[Schema, unknown]> = [
    [{ type: 'array', minItems: 1 }, []],
    [{ type: 'array', maxItems: 1 }, [1, 2]],
    [{ type: 'array', uniqueItems: true }, [1, 1]],
    [{ type: 'string', minLength: 1 }, ''],
    [{ type: 'string', maxLength: 1 }, 'xx'],
    [{ type: 'string', format: 'uuid' }, 'x'],
    [{ type: 'string', pattern: '^x', 'x-must': 'begin with x' }, 'y'],
    [{ type: 'string', enum: ['x'] }, 'y'],
    [{ const: 'x' }, 'y'],
    [{ minimum: 1 }, 0],
    [{ maximum: 1 }, 2],
    [{ exclusiveMinimum: 0 }, 0],
    [{ multipleOf: 8 }, 7],
    [{ type: 'object', required: ['x'] }, {}],
    [{ type: 'object', additionalProperties: false }, { x: 1 }],
  ];
  const said = new Set(broken.flatMap(([schema]) => Object.keys(schema)));
  const silent = new Set(['description', 'default', 'examples', 'properties', 'items', '$ref', 'oneOf']);
  const used = new Set<string>();
  const seen = new Set<unknown>();
  const walk = (schema: Schema): void => {
    if (seen.has(schema)) return;
    seen.add(schema);
    for (const [keyword, value] of Object.entries(schema)) {
      used.add(keyword);
      if (keyword === '$ref') walk(document.components.schemas[String(value).split('/').at(-1) ?? ''] ?? {});
      if (keyword === 'items') walk(value as Schema);
      if (keyword === 'oneOf') (value as Schema[]).forEach(walk);
      if (keyword === 'properties') Object.values(value as Record<string, Schema>).forEach(walk);
    }
  };
  for (const { body, parameters } of listOperations(document)) {
    if (body !== null) walk(body);
    for (const { schema } of parameters) walk(schema);
  }
  t.same(
    [...used].filter((keyword) => !said.has(keyword) && !silent.has(keyword)),
    [],
  );
  const validator = createContractValidator(document);
  for (const [schema, value] of broken) {
    const [problem] = validator.forBody(schema)(value);
    t.match(problem?.message, / /, JSON.stringify(schema));
    t.notMatch(problem?.message, 'breaks the rule', JSON.stringify(schema));
  }
});
