import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { StorageError } from '../../src/services/storage/storage.js';
import { until } from '../engines/support.js';
import { createHarness } from './support.js';

/** mulberry32: a run can be repeated with the seed it prints. */
function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

t.test('150 jobs, a third of them in trouble: each ends once, as it should', async (t) => {
  const seed = Date.now() % 100_000;
  t.comment(`seed ${seed}`);
  const random = createRandom(seed);
  const dir = t.testdir({});
  const h = await createHarness({ dir });
  t.teardown(() => h.stop());
  const put = h.storage.put.bind(h.storage);
  h.storage.put = async (...args) => {
    if (random() < 0.1) throw new StorageError('brown-out', 'unavailable', true);
    return put(...args);
  };
  h.runner.start();

  const expected = new Map<string, string[]>();
  const cancels: Promise<unknown>[] = [];
  for (let index = 0; index < 150; index += 1) {
    const dice = random();
    const [prompt, outcomes] =
      dice < 0.08
        ? [`crashes once ${path.join(dir, `flag-${index}`)}`, ['completed']]
        : dice < 0.12
          ? ['runs out of memory', ['failed']]
          : dice < 0.16
            ? ['is invalid', ['failed']]
            : dice < 0.18
              ? ['crashes always', ['failed']]
              : dice < 0.3
                ? ['to be cancelled', ['cancelled', 'completed']]
                : [`picture ${index}`, ['completed']];
    const id = await h.submit(prompt, { config: { num_images: random() < 0.2 ? 3 : 1 } });
    expected.set(id, outcomes);
    if (prompt === 'to be cancelled') cancels.push(delay(random() * 3000).then(() => h.jobs.cancel(id)));
  }
  await until(
    'all jobs ended',
    async () => h.finished.length >= expected.size && (await h.store.depth('sdxl_queue')).running === 0,
    90_000,
  );

  // one may come after its job has completed, and must find the store open
  await Promise.all(cancels);

  const wrong: string[] = [];
  for (const [id, outcomes] of expected) {
    const record = await h.store.get(id);
    if (record === null || !outcomes.includes(record.status))
      wrong.push(`${id} ${record?.status} ${record?.errorMessage} instead of ${outcomes.join(' or ')}`);
    if (record?.status === 'completed' && record.assets.some((asset) => !h.stored.has(asset)))
      wrong.push(`${id} has an asset that is not stored`);
    if (record?.status !== 'completed' && [...h.stored.keys()].some((key) => key.includes(id)))
      wrong.push(`${id} is ${record?.status} and left an asset`);
  }
  t.same(wrong, []);
  t.equal(new Set(h.finished.map((facts) => facts.job.id)).size, h.finished.length, 'no job ended twice');
  const terminal = (await h.callbacks()).filter(
    (each) => each.status === 'completed' || each.status === 'failed',
  );
  t.equal(terminal.length, expected.size);
  t.same(await h.store.depth('sdxl_queue'), { waiting: 0, delayed: 0, running: 0, oldestAgeSeconds: null });
});
