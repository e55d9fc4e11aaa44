import type { FastifyRequest } from 'fastify';
import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import type { JobType, QueueName } from '../services/catalogue.js';
import type { JobStatus } from '../services/queue/job-store.js';
import { saysNothing } from '../services/queue/read-payload.js';
import { type RouteContext, sendEvents } from './context.js';
import { allToWire, jobView, listedView, toWire } from './job-views.js';

/** W3C trace context: the job goes on in its producer's trace. */
const traceparentForm = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

export function jobRoutes({ services, disconnect }: RouteContext): Handlers {
  const { jobs } = services;

  async function requireOwn(id: string, caller: FastifyRequest['caller']): Promise<void> {
    const job = await jobs.find(id);
    if (job === null || !isFor(caller, job)) throw errors.notFound(`Job ${id}`);
  }

  return {
    async createJob(request, reply) {
      const idempotencyKey = request.headers['idempotency-key'];
      const { traceparent, tracestate } = request.headers;
      const trace =
        typeof traceparent === 'string' && traceparentForm.test(traceparent)
          ? { traceparent, ...(typeof tracestate === 'string' ? { tracestate } : {}) }
          : {};
      const userId = request.caller?.userId;
      const { record, queuePosition } = await jobs.submit(
        ofCaller(request.body, userId, services.references.isOfAnother),
        {
          trace,
          // Two users may think of the same key.
          ...(typeof idempotencyKey === 'string'
            ? { idempotencyKey: userId === undefined ? idempotencyKey : `${userId}:${idempotencyKey}` }
            : {}),
        },
      );
      const { writtenId: id = record.id } = record;
      reply.code(202).header('location', `/jobs/${id}`);
      return { id, status: record.status, queue_position: queuePosition };
    },

    async listJobs(request) {
      const { limit = 20, cursor, ...asked } = request.query;
      const { caller } = request;
      const page = await jobs.list(filterOf(asked, caller), limit, cursor);
      return {
        jobs: page.jobs.map((job) => listedView(job, caller)),
        ...(page.nextCursor === undefined ? {} : { next_cursor: page.nextCursor }),
      };
    },

    async getJob({ params: { id }, caller }) {
      const job = await jobs.get(id);
      if (job === null || !isFor(caller, job.record)) throw errors.notFound(`Job ${id}`);
      return jobView(job, caller);
    },

    async cancelJob({ params: { id }, caller }, reply) {
      if (caller?.userId !== undefined) await requireOwn(id, caller);
      const result = await jobs.cancel(id);
      if (result.outcome === 'unknown') throw errors.notFound(`Job ${id}`);
      reply.code(result.outcome === 'requested' ? 202 : 200);
      return jobView({ record: result.record, queuePosition: null, waiting: null }, caller);
    },

    async cancelJobs({ body, caller }) {
      const { limit = 1000, ids, ...asked } = body;
      if (ids === undefined && Object.keys(asked).length === 0)
        throw errors.invalidParameters.with({ details: [noFilter] }, noFilter.message);
      const filter = filterOf(asked, caller);
      const statuses = [asked.status ?? (['queued', 'processing'] as const)].flat();
      const sum = { cancelled: 0, stopping: 0, more: false };
      for (const status of statuses) {
        const left = limit - sum.cancelled - sum.stopping;
        if (left <= 0) return { ...sum, more: true };
        const done = await jobs.cancelMany({ ...filter, status }, left, ids);
        sum.cancelled += done.cancelled;
        sum.stopping += done.stopping;
        sum.more ||= done.more;
      }
      return sum;
    },

    async deleteJobAssets({ params: { id }, caller }) {
      await requireOwn(id, caller);
      const job = await jobs.removeAssets(id);
      if (job === null) throw errors.notFound(`Job ${id}`);
      return jobView(job, caller);
    },

    async followJob(request, reply) {
      const { id } = request.params;
      await requireOwn(id, request.caller);
      const lastId = Number(request.headers['last-event-id'] ?? 0);
      return sendEvents(reply, toWire(jobs.events(id, lastId, disconnect.ofStream(request, reply))));
    },

    async followJobs(request, reply) {
      const { query, headers, caller } = request;
      const { previews = true, last_event_id: asked } = query;
      const afterId = headers['last-event-id'] ?? asked;
      const events = await jobs.allEvents(
        { previews, userId: caller?.userId, ...(typeof afterId === 'string' ? { afterId } : {}) },
        disconnect.ofStream(request, reply),
      );
      return sendEvents(reply, allToWire(events));
    },
  };
}

const noFilter = {
  field: 'body',
  rule: 'minProperties',
  message: 'body must name at least one of status, type, queue, user_id, text, ids',
};

interface Asked {
  status?: JobStatus;
  type?: JobType;
  queue?: QueueName;
  user_id?: string;
  text?: string;
  id_prefix?: string;
}

/** A token is for its own user's jobs, whatever it asks for. */
function filterOf(
  { user_id: asked, id_prefix: idPrefix, ...given }: Asked,
  caller: FastifyRequest['caller'],
) {
  const userId = caller?.userId ?? asked;
  if (asked !== undefined && asked.toLowerCase() !== userId?.toLowerCase()) throw errors.foreign(ownJobs);
  return {
    ...given,
    ...(userId === undefined ? {} : { userId }),
    ...(idPrefix === undefined ? {} : { idPrefix }),
  };
}

const ownJobs = 'A token is for the jobs of its own user_id';

/** A token says whose the job is; a payload that says otherwise, or names a file of somebody else, is refused. */
function ofCaller(
  payload: unknown,
  userId: string | undefined,
  isOfAnother: (reference: string, userId: string) => boolean,
): unknown {
  if (userId === undefined || typeof payload !== 'object' || payload === null || Array.isArray(payload))
    return payload;
  const { user_id: written, ...fields } = payload as Record<string, unknown>;
  const given = written === undefined || saysNothing('user_id', written) ? userId : written;
  if (typeof given === 'string' && given.toLowerCase() !== userId) throw errors.foreign(ownJobs);
  for (const [part, values] of Object.entries(fields)) {
    if (typeof values !== 'object' || values === null) continue;
    for (const [field, value] of Object.entries(values))
      if (typeof value === 'string' && isOfAnother(value, userId))
        throw errors.foreign(`${part}.${field} names a file of another user`);
  }
  return { ...payload, user_id: given };
}

/** What belongs to somebody else is not there for the user of a token. */
function isFor(caller: FastifyRequest['caller'], { userId }: { userId: string }): boolean {
  return caller?.userId === undefined || userId.toLowerCase() === caller.userId;
}
