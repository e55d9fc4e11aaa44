import type { Test } from 'tap';
import type { OpenHarness } from '../store-suite.js';
import { callbackOf, claimed, completed, failed, someJob, start, submit } from './builders.js';

const claimMs = 10_000;

export async function testCallbacks(t: Test, open: OpenHarness): Promise<void> {
  await t.test('an entry is claimed by one relay until it is delivered', async (t) => {
    const { store, clock } = await open(t);
    const entry = callbackOf(clock, someJob().id, 'processing');
    await store.outbox.add(entry);
    t.equal(await store.outbox.pending(), 1);
    t.same(await store.outbox.claimDue('relay-1', 10, claimMs), [entry], 'byte for byte');
    t.same(await store.outbox.claimDue('relay-2', 10, claimMs), []);
    await store.outbox.delivered(entry.id);
    t.equal(await store.outbox.pending(), 0);
    clock.advance(claimMs);
    t.same(await claimed(store), []);
    await store.outbox.delivered(entry.id);
    await store.outbox.reschedule(entry.id, 0, 'late');
    await store.outbox.deadLetter(entry.id, 'late');
    t.equal(await store.outbox.pending(), 0, 'late words about a delivered entry change nothing');
    t.same(await store.outbox.listDead(10), []);
  });

  await t.test('a relay that died gives its entry back after the claim', async (t) => {
    const { store, clock } = await open(t);
    const entry = callbackOf(clock, someJob().id, 'completed');
    await store.outbox.add(entry);
    await store.outbox.claimDue('relay-1', 10, claimMs);
    clock.advance(claimMs - 1);
    t.same(await claimed(store), []);
    clock.advance(1);
    t.same(await claimed(store), [entry.id]);
  });

  await t.test('a failed delivery waits for its next time and remembers why', async (t) => {
    const { store, clock } = await open(t);
    const entry = callbackOf(clock, someJob().id, 'completed');
    await store.outbox.add(entry);
    await claimed(store);
    await store.outbox.reschedule(entry.id, 5000, 'HTTP 503');
    clock.advance(4999);
    t.same(await claimed(store), []);
    clock.advance(1);
    t.same(await store.outbox.claimDue('relay-2', 10, claimMs), [
      { ...entry, attempts: 1, nextAttemptAtMs: clock.now(), lastError: 'HTTP 503' },
    ]);
  });

  await t.test('entries of one job come in order, others pass by', async (t) => {
    const { store, clock } = await open(t);
    const [a, b] = [someJob().id, someJob().id];
    await store.outbox.add(callbackOf(clock, a, 'processing'));
    await store.outbox.add(callbackOf(clock, a, 'progress'));
    await store.outbox.add(callbackOf(clock, b, 'processing'));
    t.same((await claimed(store)).sort(), [`${a}:processing`, `${b}:processing`].sort());
    await store.outbox.reschedule(`${a}:processing`, 60_000, 'down');
    await store.outbox.delivered(`${b}:processing`);
    t.same(await claimed(store), [], 'the later one does not overtake the earlier one');
    clock.advance(60_000);
    t.same(await claimed(store), [`${a}:processing`]);
    await store.outbox.delivered(`${a}:processing`);
    t.same(await claimed(store), [`${a}:progress`]);
  });

  await t.test('a limit is a limit, the oldest first', async (t) => {
    const { store, clock } = await open(t);
    const ids = [];
    for (let i = 0; i < 5; i += 1) {
      const entry = callbackOf(clock, someJob().id, 'completed');
      await store.outbox.add(entry);
      ids.push(entry.id);
      clock.advance(1);
    }
    t.same(await claimed(store, 2), ids.slice(0, 2));
    t.same((await claimed(store, 10)).sort(), ids.slice(2).sort());
  });

  await t.test('a terminal callback drops what is still to be said before it', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
    await store.outbox.add(callbackOf(clock, job.id, 'progress'));
    t.equal(await store.outbox.pending(), 2);
    await store.finish(lease, completed(clock, job.id));
    t.equal(await store.outbox.pending(), 1);
    t.same(await claimed(store), [`${job.id}:completed`]);
    await store.outbox.add(callbackOf(clock, job.id, 'progress'));
    await store.outbox.delivered(`${job.id}:completed`);
    await store.outbox.add(callbackOf(clock, job.id, 'processing'));
    clock.advance(claimMs);
    t.same(await claimed(store), [], 'and nothing is said after it');
    t.equal(await store.outbox.pending(), 0);
  });

  for (const ending of ['delivered', 'rescheduled', 'given up', 'died'] as const) {
    await t.test(`a terminal callback waits for the one on its way (${ending})`, async (t) => {
      const { store, clock } = await open(t);
      const job = await submit(store);
      const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
      const id = `${job.id}:processing`;
      t.same(await claimed(store), [id]);
      await store.finish(lease, completed(clock, job.id));
      t.same(await claimed(store), [], 'not while the earlier one may still arrive');
      if (ending === 'delivered') await store.outbox.delivered(id);
      if (ending === 'rescheduled') await store.outbox.reschedule(id, 3_600_000, 'HTTP 500');
      if (ending === 'given up') await store.outbox.deadLetter(id, 'HTTP 404');
      if (ending === 'died') clock.advance(claimMs);
      t.same(await claimed(store), [`${job.id}:completed`]);
      await store.outbox.delivered(`${job.id}:completed`);
      clock.advance(3_600_000);
      t.equal(await store.outbox.retryDead(), 0, 'a processing callback is not brought back after the end');
      t.same(await claimed(store), []);
      t.equal(await store.outbox.pending(), 0);
    });
  }

  await t.test('the same id replaces the body, also while the older one is on its way', async (t) => {
    const { store, clock } = await open(t);
    const first = callbackOf(clock, someJob().id, 'progress', { body: '1' });
    await store.outbox.add(first);
    await store.outbox.add({ ...first, body: '2' });
    t.equal(await store.outbox.pending(), 1);
    t.same(
      (await store.outbox.claimDue('r', 10, claimMs)).map(({ body }) => body),
      ['2'],
    );
    await store.outbox.add({ ...first, body: '3' });
    t.same(await claimed(store), []);
    await store.outbox.delivered(first.id);
    t.same(
      (await store.outbox.claimDue('r', 10, claimMs)).map(({ body }) => body),
      ['3'],
    );
    await store.outbox.delivered(first.id);
    t.equal(await store.outbox.pending(), 0);
  });

  await t.test('dead entries are kept, listed and retried, all or one', async (t) => {
    const { store, clock } = await open(t);
    const jobs = [await submit(store), await submit(store), await submit(store)];
    for (const job of jobs) {
      const { lease } = await start(store, job);
      await store.finish(lease, failed(clock, job.id));
    }
    for (const id of await claimed(store)) await store.outbox.deadLetter(id, 'HTTP 410: gone');
    t.equal(await store.outbox.pending(), 0);
    const dead = await store.outbox.listDead(10);
    t.same(dead.map(({ id }) => id).sort(), jobs.map(({ id }) => `${id}:failed`).sort());
    t.match(dead[0], { lastError: 'HTTP 410: gone', attempts: 1, event: 'failed' });
    t.equal((await store.outbox.listDead(2)).length, 2);
    t.equal(await store.outbox.retryDead(`${jobs[0]?.id}:failed`), 1);
    t.equal(await store.outbox.retryDead('unknown'), 0);
    t.match(await store.outbox.claimDue('r', 10, claimMs), [{ id: `${jobs[0]?.id}:failed`, attempts: 0 }]);
    t.equal(await store.outbox.retryDead(), 2);
    t.equal((await claimed(store)).length, 2);
    t.same(await store.outbox.listDead(10), []);
  });

  await t.test('what is recorded outlives the process', async (t) => {
    const { store, clock, reopen } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
    t.same(await claimed(store), [`${job.id}:processing`]);
    await store.finish(lease, completed(clock, job.id));
    clock.advance(claimMs);
    const later = await reopen();
    t.same(await later.outbox.claimDue('relay-2', 10, claimMs), [
      {
        ...completed(clock, job.id).callback,
        createdAtMs: clock.now() - claimMs,
        nextAttemptAtMs: clock.now() - claimMs,
      },
    ]);
  });
}
