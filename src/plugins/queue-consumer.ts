import fp from 'fastify-plugin';
import type { Services } from '../services/index.js';

export interface QueueConsumerOptions {
  services: Pick<Services, 'start' | 'stopTaking' | 'stop'>;
  /**
   * What running jobs have to finish, and clients to read their answers, once the service is told to stop.
   */
  graceMs: number;
}

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
      void services.stop();
      // One client that reads slowly, or never ends its request, is not waited for any longer than a job is.
      const timer = setTimeout(() => app.server.closeAllConnections(), graceMs);
      app.server.once('close', () => clearTimeout(timer));
    });
    app.addHook('onClose', () => services.stop());
    done();
  },
  { name: 'queue-consumer', fastify: '5.x' },
);
