import { getEventListeners } from 'node:events';
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

/** Signals that `AbortSignal.any` made of this one; Node keeps an entry for each, for good. */
function dependents(signal: AbortSignal): number {
  const key = Object.getOwnPropertySymbols(signal).find(
    (symbol) => symbol.description === 'kDependantSignals',
  );
  return key === undefined ? 0 : ((Reflect.get(signal, key) as { size: number } | undefined)?.size ?? 0);
}
