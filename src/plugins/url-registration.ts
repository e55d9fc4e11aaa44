import fp from 'fastify-plugin';
import { within } from '../lib/wait.js';
import type { Services } from '../services/index.js';

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
