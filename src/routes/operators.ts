import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import { withoutCredentials } from '../lib/printable.js';
import type { RouteContext } from './context.js';

/** What was given up, and what operators can do about it. */
export function operatorRoutes({ services: { store } }: RouteContext): Handlers {
  return {
    async listDeadLetters(request) {
      const letters = await store.deadLetters(request.query.queue, request.query.limit ?? 50);
      return {
        dead_letters: letters.map(
          ({ id, queue, payload, encoding, payloadBytes, reason, jobId, attempts, atMs }) => ({
            id,
            queue,
            payload,
            ...(encoding === undefined ? {} : { encoding }),
            payload_bytes: payloadBytes,
            reason,
            attempts,
            at: new Date(atMs).toISOString(),
            ...(jobId === undefined ? {} : { job_id: jobId }),
          }),
        ),
      };
    },

    async requeueDeadLetter({ params: { id } }) {
      const outcome = await store.requeueDeadLetter(id);
      if (outcome === 'unknown') throw errors.notFound(`Dead letter ${id}`);
      if (outcome === 'incomplete')
        throw errors.conflict('The payload was too large to be kept: only its beginning is here');
      return { id, status: 'requeued' };
    },

    async dropDeadLetter({ params: { id } }) {
      if (!(await store.dropDeadLetter(id))) throw errors.notFound(`Dead letter ${id}`);
      return { id, status: 'dropped' };
    },

    async listCallbacks(request) {
      const [pending, dead] = await Promise.all([
        store.outbox.pending(),
        store.outbox.listDead(request.query.limit ?? 50),
      ]);
      return {
        pending,
        dead: dead.map(({ id, jobId, event, url, attempts, lastError, createdAtMs }) => ({
          id,
          job_id: jobId,
          event,
          url: withoutCredentials(url),
          attempts,
          created_at: new Date(createdAtMs).toISOString(),
          ...(lastError === undefined ? {} : { last_error: withoutCredentials(lastError) }),
        })),
      };
    },

    async retryCallbacks(request) {
      return { retried: await store.outbox.retryDead(request.body.id) };
    },
  };
}
