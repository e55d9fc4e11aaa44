import { getEventListeners } from 'node:events';
import t from 'tap';
import { linkSignal } from '../../src/lib/wait.js';

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
