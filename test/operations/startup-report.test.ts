import { Writable } from 'node:stream';
import { pino } from 'pino';
import t from 'tap';
import { reportAfterStart } from '../../src/services/operations/validation.js';
import { testEngineEntry, until } from '../engines/support.js';
import { build } from '../helpers/build.js';

t.setTimeout(120_000);

t.test('what is not well is said in the log once the engines have had their first start', async (t) => {
  const lines: Array<Record<string, unknown>> = [];
  const log = pino(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
        done();
      },
    }),
  );
  const { services, engines } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }) },
    start: true,
    options: {
      engineEntry: testEngineEntry,
      engines: {
        sdxl: {
          restartBaseMs: 50,
          restartMaxMs: 50,
          load: { modelDir: 'none', device: 'cpu', threads: 1, options: { onLoad: 'slow' } },
        },
      },
    },
  });
  reportAfterStart({ engines, validation: services.validation, log, delayMs: 0 });
  t.equal(engines.status('sdxl').state, 'starting');
  t.same(lines, [], 'not before');
  await until('the report', () => lines.some(({ msg }) => msg === 'checked after the start'), 70_000);
  t.equal(engines.status('sdxl').state, 'ready');
  t.match(
    lines.find(({ subject }) => subject === 'sdxl'),
    {
      level: 50,
      event: 'validation',
      check: 'model_paths',
      msg: /model_index\.json is missing/,
      cure: /docs\/models\.md/,
    },
  );
  t.match(
    lines.find(({ subject }) => subject === 'wan'),
    { level: 40, msg: /no wan model folder/ },
  );
  t.match(lines.at(-1), { level: 30, checked: Number, errors: Number, warnings: Number });
  t.notOk(
    lines.some(({ subject }) => subject === 'sdxl engine'),
    'what is well is not mentioned',
  );
});
