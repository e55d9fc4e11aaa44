import { getEventListeners, once } from 'node:events';
import { mock } from 'node:test';
import Fastify from 'fastify';
import t from 'tap';
import { createDisconnectSignals } from '../../src/routes/context.js';

t.test('requests leave nothing behind on the signal that lives as long as the service', async (t) => {
  const made: AbortController[] = [];
  const Original = globalThis.AbortController;
  globalThis.AbortController = class extends Original {
    constructor() {
      super();
      made.push(this);
    }
  };
  t.teardown(() => {
    globalThis.AbortController = Original;
  });
  const app = Fastify();
  const disconnect = createDisconnectSignals(app);
  const [closing] = made;
  globalThis.AbortController = Original;
  if (closing === undefined) throw new Error('no controller was made');

  const signals: AbortSignal[] = [];
  app.get('/', async (_request, reply) => {
    signals.push(disconnect.of(reply));
    return 'x';
  });
  for (let index = 0; index < 20; index += 1) await app.inject('/');
  t.equal(signals.length, 20);
  t.ok(
    signals.every((signal) => signal.aborted),
    'whoever got its answer is gone',
  );
  t.same([getEventListeners(closing.signal, 'abort').length, dependents(closing.signal)], [0, 0]);
  await app.close();
  t.ok(closing.signal.aborted);
});

t.test('a client that went away before anybody listened is noticed, and nothing stays behind', async (t) => {
  const app = Fastify({ forceCloseConnections: true });
  const disconnect = createDisconnectSignals(app);
  const left = new AbortController();
  const seen = new Promise<AbortSignal>((resolve) => {
    app.get('/', async (_request, reply) => {
      const closed = once(reply.raw, 'close');
      left.abort();
      await closed;
      resolve(disconnect.of(reply));
      return 'x';
    });
  });
  const address = await app.listen({ port: 0 });
  t.teardown(() => app.close());
  await t.rejects(fetch(address, { signal: left.signal }));
  t.ok((await seen).aborted);
});

/** Signals that `AbortSignal.any` made of this one; Node keeps an entry for each, for good. */
function dependents(signal: AbortSignal): number {
  const key = Object.getOwnPropertySymbols(signal).find(
    (symbol) => symbol.description === 'kDependantSignals',
  );
  return key === undefined ? 0 : ((Reflect.get(signal, key) as { size: number } | undefined)?.size ?? 0);
}

t.test('nobody is asked for again whose stream was gone before it began', async (t) => {
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const app = Fastify();
  const disconnect = createDisconnectSignals(app);
  let asked = 0;
  const request = { identify: () => Promise.resolve(((asked += 1), null)) };
  const reply = (destroyed: boolean) => ({ raw: { destroyed, once: () => undefined } });
  const gone = disconnect.ofStream(request as never, reply(true) as never);
  t.ok(gone.aborted);
  mock.timers.tick(60_000);
  t.equal(asked, 0);
  const there = disconnect.ofStream(request as never, reply(false) as never);
  mock.timers.tick(6000);
  await Promise.resolve();
  t.equal(asked, 1, 'as it is of one that goes on');
  await once(there, 'abort');
  mock.timers.tick(60_000);
  t.equal(asked, 1, 'until its key is good no more');
  await app.close();
});
