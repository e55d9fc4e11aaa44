import { setTimeout as sleep } from 'node:timers/promises';
import fp from 'fastify-plugin';
import type { Services } from '../services/index.js';

export interface QueueConsumerOptions {
  services: Pick<Services, 'start' | 'stopTaking' | 'stop'>;
  /**
   * What running jobs have to finish, and clients to read their answers, once the service is told to stop.
   */
  graceMs: number;
}

/** What clients have at least to read their answers, within the grace, when no job is left to wait for. */
const answersMs = 5000;

/**
 * Takes jobs while the app listens: not before the port is ours, and not a moment after the stop has begun.
 */
export const queueConsumerPlugin = fp<QueueConsumerOptions>(
  (app, { services, graceMs }, done) => {
    app.addHook('onListen', async () => {
      // Fastify only logs what fails here; a service that cannot take jobs must not look like one.
      await services.start().catch((error: unknown) =>
        setImmediate(() => {
          throw error;
        }),
      );
    });
    app.addHook('preClose', async () => {
      services.stopTaking();
      const atMost = (ms: number) => sleep(Math.min(ms, graceMs), undefined, { ref: false });
      // One client that reads slowly, or never ends its request, is not waited for any longer than the jobs
      // are.
      const allEnded = Promise.all([services.stop(), atMost(answersMs)]);
      void Promise.race([allEnded, atMost(graceMs)]).then(() => app.server.closeAllConnections());
    });
    app.addHook('onClose', () => services.stop());
    done();
  },
  { name: 'queue-consumer', fastify: '5.x' },
);
