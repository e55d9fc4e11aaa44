import { getEventListeners } from 'node:events';
import t from 'tap';
import { linkSignal, sharedFor } from '../../src/lib/wait.js';

t.test('a linked signal aborts with its own reason or that of the longer-lived one', async (t) => {
  const outer = new AbortController();
  const [own, waiting, released] = [
    linkSignal(outer.signal),
    linkSignal(outer.signal),
    linkSignal(outer.signal),
  ];
  own.abort('own');
  released.release();
  outer.abort('outer');
  t.same([own.signal.reason, waiting.signal.reason, released.signal.aborted], ['own', 'outer', false]);
  t.equal(linkSignal(outer.signal).signal.reason, 'outer', 'aborted before');
});

t.test('nothing stays on the longer-lived signal', async (t) => {
  const outer = new AbortController();
  const links = Array.from({ length: 5 }, () => linkSignal(outer.signal));
  t.equal(getEventListeners(outer.signal, 'abort').length, 5);
  for (const { release } of links) release();
  t.equal(getEventListeners(outer.signal, 'abort').length, 0);
});

t.test('one answer is handed out for a while, a failure only to those who wait for it', async (t) => {
  let asked = 0;
  const ask = sharedFor(60_000, async () => {
    asked += 1;
    await new Promise((resolve) => setImmediate(resolve));
    if (asked === 1) throw new Error('away');
    return asked;
  });
  t.same(
    (await Promise.allSettled([ask(), ask()])).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  t.equal(asked, 1);
  t.same(await Promise.all([ask(), ask()]), [2, 2]);
  t.equal(await ask(), 2);
});
