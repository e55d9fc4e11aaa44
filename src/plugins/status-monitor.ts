import fp from 'fastify-plugin';
import type { StatusMonitor } from '../services/operations/status-monitor.js';

/**
 * One line a minute that says how everything is, and a warning before something runs out. Runs while the app
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
        const { facts, warnings } = await monitor.report();
        app.log.info({ event: 'status', ...facts }, 'status');
        for (const { about, message } of warnings) app.log.warn({ event: 'limit', about }, message);
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
