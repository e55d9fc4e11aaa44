import t from 'tap';
import { StorageError } from '../../src/services/storage/storage.js';
import { until } from '../engines/support.js';
import { emptyWork, harness } from './support.js';

t.test('cancellation: queued, between steps, during upload; never another job', async (t) => {
  const h = await harness(t);
  const queued = await h.submit('a circle');
  t.match(await h.jobs.cancel(queued), { outcome: 'cancelled' });
  t.match(await h.store.get(queued), { status: 'cancelled', metadata: { error_type: 'Cancelled' } });
  h.runner.start();

  const drawing = await h.submit('is slow');
  const neighbour = await h.submit('a neighbour');
  await until('its engine', () =>
    h.runner.inFlight().some((each) => each.id === drawing && each.phase === 'computing'),
  );
  t.match(await h.jobs.cancel(drawing), { outcome: 'requested' });
  t.match(await h.ended(drawing), { status: 'cancelled', errorMessage: /^Generation failed: cancelled/ });
  t.match(await h.ended(neighbour), { status: 'completed' });
  t.match(h.engines.status('sdxl'), { restarts: 0 }, 'the engine stopped between steps');
  t.match(await h.jobs.cancel(drawing), { outcome: 'already_finished' });

  let reached = false;
  h.faults.push(async () => {
    reached = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  });
  const uploading = await h.submit('three pictures', { config: { num_images: 3 } });
  await until('its upload', () => reached);
  await h.jobs.cancel(uploading);
  t.match(await h.ended(uploading), { status: 'cancelled', assets: [] });
  await until('its assets are gone', () => [...h.stored.keys()].every((key) => !key.includes(uploading)));
  const statuses = (await h.callbacks()).filter((each) => [queued, drawing, uploading].includes(each.job_id));
  t.equal(statuses.length, 3);
  for (const each of statuses) t.match(each, { status: 'failed', metadata: { error_type: 'Cancelled' } });
  await emptyWork(h.workDir);
});

t.test('cancelled while prepared: it never reaches the engine', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const first = await h.submit('is slow');
  const second = await h.submit('waits');
  await until('both in the pipeline', () => h.runner.inFlight().length === 2);
  await h.jobs.cancel(second);
  t.match(await h.ended(second), { status: 'cancelled' });
  t.match(await h.ended(first), { status: 'completed' });
  t.equal(h.engines.status('sdxl').jobsProcessed, 1);
});

t.test('cancelled after an attempt that stored some of its files: they go, too', async (t) => {
  const h = await harness(t, {
    limits: { uploadPatienceMs: 0, retryBackoff: { baseMs: 60_000, maxMs: 60_000, jitter: 0 } },
  });
  h.runner.start();
  h.faults.push(
    () => {},
    () => {
      throw new StorageError('brown-out', 'unavailable', true);
    },
  );
  const id = await h.submit('three pictures', { config: { num_images: 3 } });
  await until('the wait for the next attempt', async () => (await h.store.get(id))?.lastError !== undefined);
  t.same([...h.stored.keys()], [`sdxl_image_fast/${h.userId}/${id}/0.png`]);
  t.match(await h.jobs.cancel(id), { outcome: 'cancelled' });
  await until('the first picture to be gone', () => h.stored.size === 0);
});

t.test(
  'cancelled in an attempt that has stored nothing yet: what the one before it stored goes',
  async (t) => {
    const h = await harness(t, { limits: { uploadPatienceMs: 0 } });
    h.runner.start();
    h.faults.push(
      () => {},
      () => {
        throw new StorageError('brown-out', 'unavailable', true);
      },
    );
    const id = await h.submit('three pictures is slow', { config: { num_images: 3 } });
    await until('the second attempt', () =>
      h.runner.inFlight().some(({ attempt, phase }) => attempt === 2 && phase === 'computing'),
    );
    t.equal(h.stored.size, 1);
    await h.jobs.cancel(id);
    t.match(await h.ended(id), { status: 'cancelled' });
    await until('the first picture to be gone', () => h.stored.size === 0);
  },
);
