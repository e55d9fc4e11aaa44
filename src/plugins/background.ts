import { setTimeout as sleep } from 'node:timers/promises';
import fp from 'fastify-plugin';
import { within } from '../lib/wait.js';
import type { Services } from '../services/index.js';
import type { StatusMonitor } from '../services/operations/status-monitor.js';

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

/**
 * One line a minute that says how everything is, and one for each trouble that began. Runs while the app
 * listens.
 */
export const statusMonitorPlugin = fp<{ monitor: StatusMonitor; periodMs?: number }>(
  (app, { monitor, periodMs = 60_000 }, done) => {
    let timer: NodeJS.Timeout | undefined;
    let looking = false;

    async function look(): Promise<void> {
      if (looking) return;
      looking = true;
      try {
        const { facts, troubles } = await monitor.report();
        app.log.info({ event: 'status', ...facts }, 'status');
        for (const { severity, code, target, what, cause, cure } of troubles)
          app.log[severity === 'warning' ? 'warn' : 'error'](
            { event: 'trouble', code, target, cure },
            `${what}: ${cause}`,
          );
      } catch (error) {
        app.log.warn({ err: error }, 'no status report');
      } finally {
        looking = false;
      }
    }

    app.addHook('onListen', async () => {
      timer = setInterval(() => void look(), periodMs).unref();
    });
    app.addHook('onClose', async () => clearInterval(timer));
    done();
  },
  { name: 'status-monitor', fastify: '5.x' },
);

/** The goodbye is a courtesy: whoever does not answer it is not waited for. */
const goodbyeMs = 2000;

/** Tells where this worker is while the app listens, and that it has gone. */
export const urlRegistrationPlugin = fp<{ registration: Services['registration'] }>(
  (app, { registration }, done) => {
    let stopped: Promise<unknown> | undefined;
    app.addHook('onListen', async () => {
      if (stopped === undefined) registration.start();
    });
    app.addHook('preClose', async () => {
      stopped = within(goodbyeMs, registration.stop());
    });
    app.addHook('onClose', async () => {
      await stopped;
    });
    done();
  },
  { name: 'url-registration', fastify: '5.x' },
);
