import t from 'tap';
import { until } from '../engines/support.js';
import { harness } from './support.js';

t.test('stop: what computes may finish, what is prepared goes back without losing an attempt', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const first = await h.submit('is slow');
  const second = await h.submit('waits');
  await until(
    'both in the pipeline',
    () => h.runner.inFlight().some((each) => each.phase === 'computing') && h.runner.inFlight().length === 2,
  );
  await h.runner.stop(10_000);
  t.match(await h.store.get(first), { status: 'completed' });
  t.match(await h.store.get(second), { status: 'queued', attempts: 0 });
});

t.test('stop after the grace: a running job goes back to its queue', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const id = await h.submit('is slow', { type: 'sdxl_image_high' });
  await until('computing', () => h.runner.inFlight().some((each) => each.phase === 'computing'));
  const sinceMs = Date.now();
  await h.runner.stop(50);
  t.ok(Date.now() - sinceMs < 2000);
  t.match(await h.store.get(id), { status: 'queued', attempts: 0 });
  t.match(await h.store.reserve({ queue: 'sdxl_queue', workerId: 'next', leaseMs: 1000 }), { attempt: 1 });
});

t.test('a job handed out while the runner stops goes back unbegun, without losing an attempt', async (t) => {
  const h = await harness(t);
  const reserve = h.store.reserve.bind(h.store);
  let answer = () => {};
  const mayAnswer = new Promise<void>((resolve) => {
    answer = resolve;
  });
  let taken = false;
  h.store.reserve = async (request) => {
    const reservation = await reserve(request);
    if (reservation === null) return null;
    taken = true;
    await mayAnswer;
    return reservation;
  };
  const id = await h.submit('a circle');
  h.runner.start();
  await until('the reservation', () => taken);
  const stopped = h.runner.stop(10_000);
  answer();
  await stopped;
  t.match(await h.store.get(id), { status: 'queued', attempts: 0 });
  t.equal(h.engines.status('sdxl').jobsProcessed, 0);
  t.match(await reserve({ queue: 'sdxl_queue', workerId: 'next', leaseMs: 1000 }), { attempt: 1 });
});
