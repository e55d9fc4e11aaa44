import t from 'tap';
import { createEngines } from '../../src/services/engines/engines.js';
import { createLogRing } from '../../src/services/engines/engine-process.js';
import { testEngine, until } from './support.js';

t.test(
  'one after another, in the order given; a start that fails holds nobody up, a lazy engine waits for its first request',
  async (t) => {
    for (const onLoad of ['slow', 'crash']) {
      const engines = createEngines({
        engines: [
          testEngine({ kind: 'sdxl', onLoad, restartBaseMs: 60_000, restartMaxMs: 60_000 }),
          testEngine({ kind: 'wan' }),
          testEngine({ kind: 'qwen', lazy: true }),
        ],
      });
      t.teardown(() => engines.stop({ force: true }));
      const seen: string[] = [];
      engines.onChange((kind) => {
        const line = `${kind} ${engines.status(kind).state}`;
        if (!seen.includes(line)) seen.push(line);
      });
      engines.start();
      await until('the last one', () => engines.status('wan').state === 'ready');
      t.same(seen, [
        'sdxl starting',
        ...(onLoad === 'slow' ? ['sdxl warming', 'sdxl ready'] : ['sdxl backing_off']),
        'wan starting',
        'wan warming',
        'wan ready',
      ]);
      t.match(engines.status('qwen'), { state: 'stopped', resting: true, pid: null });
    }
  },
);

t.test('the last 200 lines are kept, long ones cut', async (t) => {
  const ring = createLogRing();
  for (let line = 0; line < 250; line += 1) ring.push(`line ${line}`);
  t.same([ring.lines().length, ring.lines()[0], ring.lines().at(-1)], [200, 'line 50', 'line 249']);
  ring.push('x'.repeat(9000));
  t.equal(ring.lines().at(-1)?.length, 4001);
});
