import type { Test } from 'tap';
import type { SessionLimits, SessionStore } from '../../src/services/enhancement/sessions.js';

const limits: SessionLimits = { ttlMs: 60_000, maxTurns: 3, maxSessions: 5 };
const turn = (number: number) => ({ prompt: `prompt ${number}`, answer: `answer ${number} – "größer" 🔴` });

/**
 * What every memory of conversations must do. `open` gives an empty one, `later` lets time pass for the last
 * one opened.
 */
export async function testSessions(
  t: Test,
  {
    open,
    later,
  }: { open: (limits: SessionLimits) => Promise<SessionStore>; later: (ms: number) => Promise<void> },
): Promise<void> {
  await t.test('turns in order, the oldest dropped', async (t) => {
    const store = await open(limits);
    t.same(await store.read({ owner: 'a', id: 's' }), []);
    for (const number of [1, 2, 3, 4]) await store.append({ owner: 'a', id: 's' }, turn(number));
    t.same(await store.read({ owner: 'a', id: 's' }), [turn(2), turn(3), turn(4)]);
  });

  await t.test('two turns at the same time: both are kept', async (t) => {
    const store = await open(limits);
    await Promise.all([
      store.append({ owner: 'a', id: 's' }, turn(1)),
      store.append({ owner: 'a', id: 's' }, turn(2)),
    ]);
    t.same(await store.read({ owner: 'a', id: 's' }), [turn(1), turn(2)]);
  });

  await t.test('owners and ids never meet', async (t) => {
    const store = await open(limits);
    const keys = [
      { owner: 'a', id: 's' },
      { owner: 'b', id: 's' },
      { owner: 'a', id: 't' },
      { owner: 'as', id: '' },
      { owner: '', id: 'as' },
    ];
    for (const [number, key] of keys.entries()) await store.append(key, turn(number));
    for (const [number, key] of keys.entries())
      t.same(await store.read(key), [turn(number)], JSON.stringify(key));
  });

  await t.test('forgotten on request, and only that one', async (t) => {
    const store = await open(limits);
    await store.append({ owner: 'a', id: 's' }, turn(1));
    await store.append({ owner: 'b', id: 's' }, turn(2));
    await store.forget({ owner: 'a', id: 's' });
    await store.forget({ owner: 'nobody', id: 's' });
    t.same(
      [await store.read({ owner: 'a', id: 's' }), await store.read({ owner: 'b', id: 's' })],
      [[], [turn(2)]],
    );
    await store.append({ owner: 'a', id: 's' }, turn(3));
    t.same(await store.read({ owner: 'a', id: 's' }), [turn(3)], 'and can begin again');
  });

  await t.test('forgotten after its time, which each turn prolongs and reading does not', async (t) => {
    const store = await open({ ...limits, ttlMs: 600 });
    await store.append({ owner: 'a', id: 'short' }, turn(1));
    await store.append({ owner: 'a', id: 'long' }, turn(1));
    await later(400);
    await store.append({ owner: 'a', id: 'long' }, turn(2));
    t.same(await store.read({ owner: 'a', id: 'short' }), [turn(1)]);
    await later(400);
    t.same(await store.read({ owner: 'a', id: 'short' }), []);
    t.same(await store.read({ owner: 'a', id: 'long' }), [turn(1), turn(2)]);
    await later(700);
    t.same(await store.read({ owner: 'a', id: 'long' }), []);
  });

  await t.test('beyond the limit those that rested longest go', async (t) => {
    const store = await open(limits);
    for (const number of [1, 2, 3, 4, 5]) {
      await store.append({ owner: 'a', id: String(number) }, turn(number));
      await later(5);
    }
    await store.append({ owner: 'a', id: '1' }, turn(10));
    await later(5);
    await store.append({ owner: 'a', id: '6' }, turn(6));
    const kept = await Promise.all(
      ['1', '2', '3', '4', '5', '6'].map(async (id) => (await store.read({ owner: 'a', id })).length),
    );
    t.same(kept, [2, 0, 1, 1, 1, 1]);
  });

  await t.test('what is read is a copy', async (t) => {
    const store = await open(limits);
    await store.append({ owner: 'a', id: 's' }, turn(1));
    (await store.read({ owner: 'a', id: 's' })).push(turn(2));
    t.same(await store.read({ owner: 'a', id: 's' }), [turn(1)]);
  });
}
