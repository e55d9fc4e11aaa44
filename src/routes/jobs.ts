import type { FastifyReply, FastifyRequest } from 'fastify';
import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import type { JobEvent } from '../services/jobs/job-service.js';
import { ownerOf } from '../services/references/uploads.js';
import type { JobProgress, JobRecord } from '../services/queue/job-store.js';
import { type RouteContext, sendEvents, type ServerSentEvent } from './context.js';

/** W3C trace context: the job goes on in its producer's trace. */
const traceparentForm = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

type JobView = components['schemas']['Job'];

export function jobRoutes({ services, disconnect }: RouteContext): Handlers {
  const { jobs } = services;

  /** What belongs to somebody else is not there for the user of a token. */
  async function requireJob(id: string, userId: string | undefined) {
    const job = await jobs.get(id);
    if (job === null || (userId !== undefined && job.record.userId.toLowerCase() !== userId))
      throw errors.notFound(`Job ${id}`);
    return job;
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
      const { status, type, user_id: asked, limit = 20, cursor } = request.query;
      const userId = request.caller?.userId ?? asked;
      if (asked !== undefined && asked.toLowerCase() !== userId?.toLowerCase()) throw errors.foreign(ownJobs);
      const page = await jobs.list(
        {
          ...(status === undefined ? {} : { status }),
          ...(type === undefined ? {} : { type }),
          ...(userId === undefined ? {} : { userId }),
        },
        limit,
        cursor,
      );
      return {
        jobs: page.jobs.map((record) => jobView(record, null)),
        ...(page.nextCursor === undefined ? {} : { next_cursor: page.nextCursor }),
      };
    },

    async getJob(request) {
      const { record, queuePosition } = await requireJob(request.params.id, request.caller?.userId);
      return jobView(record, queuePosition);
    },

    async cancelJob(request, reply) {
      if (request.caller?.userId !== undefined) await requireJob(request.params.id, request.caller?.userId);
      const result = await jobs.cancel(request.params.id);
      if (result.outcome === 'unknown') throw errors.notFound(`Job ${request.params.id}`);
      reply.code(result.outcome === 'requested' ? 202 : 200);
      return jobView(result.record, null);
    },

    async followJob(request, reply) {
      const { id } = request.params;
      await requireJob(id, request.caller?.userId);
      const lastId = Number(request.headers['last-event-id'] ?? 0);
      return sendEvents(reply, toWire(jobs.events(id, lastId, disconnect.of(reply))));
    },
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
  const { user_id: given = userId, ...fields } = payload as Record<string, unknown>;
  if (typeof given === 'string' && given.toLowerCase() !== userId) throw errors.foreign(ownJobs);
  for (const [part, values] of Object.entries(fields)) {
    if (typeof values !== 'object' || values === null) continue;
    for (const [field, value] of Object.entries(values))
      if (typeof value === 'string' && isOfAnother(value, userId))
        throw errors.foreign(`${part}.${field} names a file of another user`);
  }
  return { ...payload, user_id: given };
}

async function* toWire(events: AsyncIterable<JobEvent>): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) {
    yield event.event === 'progress' ? { ...event, data: progressView(event.data) } : event;
  }
}

function progressView({
  stage,
  step,
  steps,
  fraction,
  etaSeconds,
}: JobProgress): components['schemas']['JobProgress'] {
  return { stage, step, steps, fraction, eta_seconds: etaSeconds };
}

function jobView(record: JobRecord, queuePosition: number | null): JobView {
  return {
    id: record.writtenId ?? record.id,
    type: record.type,
    status: record.status,
    queue_position: queuePosition,
    progress: progressView(record.progress),
    attempts: record.attempts,
    assets: record.assets,
    metadata: record.metadata,
    ...(record.errorMessage === undefined ? {} : { error_message: record.errorMessage }),
    created_at: new Date(record.createdAtMs).toISOString(),
    ...(record.startedAtMs === undefined ? {} : { started_at: new Date(record.startedAtMs).toISOString() }),
    ...(record.finishedAtMs === undefined
      ? {}
      : { finished_at: new Date(record.finishedAtMs).toISOString() }),
  };
}

type AssetRequest = Pick<FastifyRequest, 'caller'> & { params: { bucket: string; path: string } };

/** Files of the folder storage: whole, in ranges, or not again when the client has them. */
export function assetRoutes({ services: { assets } }: RouteContext): Handlers {
  async function send(
    { params: { bucket, path }, caller }: AssetRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const isTheirs = caller?.userId === undefined || ownerOf(path) === caller.userId;
    const asset = isTheirs ? await assets?.find(bucket, path) : null;
    if (assets === undefined || asset === undefined || asset === null)
      throw errors.notFound(`Asset ${bucket}/${path}`);
    return (
      reply
        .type(asset.contentType)
        .header('x-content-type-options', 'nosniff')
        // A later attempt of the same job may write the same name again: ask each time, send it once.
        .header('cache-control', 'private, no-cache')
        .sendFile(asset.file, assets.root, { cacheControl: false, contentType: false, dotfiles: 'allow' })
    );
  }

  return { getAsset: send, headAsset: send };
}
