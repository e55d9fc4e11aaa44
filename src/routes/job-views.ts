import type { FastifyRequest } from 'fastify';
import type { components } from '../contract/generated.js';
import { iso } from '../lib/units.js';
import type { AllJobsEvent, JobEvent } from '../services/jobs/event-log.js';
import type { SeenJob } from '../services/jobs/job-service.js';
import type { Waiting } from '../services/jobs/outlook.js';
import type { JobProgress } from '../services/queue/job-store.js';
import { askedFor, promptOf } from '../services/queue/read-payload.js';
import { sinceOf } from '../services/queue/records.js';
import type { EndedAttempt } from '../services/queue/store-parts.js';
import type { ServerSentEvent } from './context.js';

type JobView = components['schemas']['Job'];

/** Events of one job. */
export async function* toWire(events: AsyncIterable<JobEvent>): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) {
    yield event.event === 'progress' ? { ...event, data: progressView(event.data) } : event;
  }
}

/** Events of all jobs. */
export async function* allToWire(events: AsyncIterable<AllJobsEvent>): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) {
    const known = sent.get(event);
    const wire = known ?? wireOf(event);
    if (known === undefined) sent.set(event, wire);
    yield wire;
  }
}

/** Many may follow: each event is made once. */
const sent = new WeakMap<AllJobsEvent, ServerSentEvent>();

function wireOf(event: AllJobsEvent): ServerSentEvent {
  if (event.event === 'reset') return { event: 'reset', data: {} };
  if (event.event === 'state') {
    const {
      id,
      writtenId = id,
      type,
      userId,
      queue,
      status,
      attempts,
      assets,
      errorMessage,
      atMs,
    } = event.data;
    const data: components['schemas']['AnyJobState'] = {
      job_id: writtenId,
      type,
      user_id: userId,
      queue,
      status,
      attempts,
      assets,
      ...(errorMessage === undefined ? {} : { error_message: errorMessage }),
      at: iso(atMs),
    };
    return { id: event.id, event: 'state', data };
  }
  const { jobId, ...of } = event.data;
  if ('progress' in of) return { event: 'progress', data: { job_id: jobId, ...progressView(of.progress) } };
  return { event: 'preview', data: { job_id: jobId, ...of.preview } };
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

/** Of a prompt in a listing. */
const longestListedPrompt = 300;

/** A job with all that is known of it. */
export const jobView = (job: SeenJob, caller: FastifyRequest['caller']): JobView => ({
  ...viewOf(job, caller),
  ...(job.record.request === undefined ? {} : { request: askedFor(job.record) }),
});

/** A job among others. */
export function listedView(job: SeenJob, caller: FastifyRequest['caller']): JobView {
  const view = viewOf(job, caller);
  const { prompt } = view;
  return {
    ...view,
    prompt: prompt.length > longestListedPrompt ? `${prompt.slice(0, longestListedPrompt)}…` : prompt,
  };
}

function viewOf({ record, queuePosition, waiting }: SeenJob, caller: FastifyRequest['caller']): JobView {
  const { startedAtMs, finishedAtMs, workerId, lastError, history } = record;
  const isUser = caller?.userId !== undefined;
  return {
    id: record.writtenId ?? record.id,
    type: record.type,
    queue: record.queue,
    user_id: record.userId,
    prompt: promptOf(record),
    status: record.status,
    since: iso(sinceOf(record)),
    queue_position: queuePosition,
    waiting: waiting === null ? null : waitingView(waiting, isUser),
    progress: {
      ...progressView(record.progress),
      ...(waiting === null ? {} : { eta_seconds: waiting.etaSeconds }),
    },
    attempts: record.attempts,
    assets: record.assets,
    metadata: record.metadata,
    ...(record.errorMessage === undefined ? {} : { error_message: record.errorMessage }),
    created_at: iso(record.createdAtMs),
    ...(startedAtMs === undefined ? {} : { started_at: iso(startedAtMs) }),
    ...(finishedAtMs === undefined ? {} : { finished_at: iso(finishedAtMs) }),
    // What only operators can make something of.
    ...(isUser || workerId === undefined ? {} : { worker_id: workerId }),
    ...(isUser || lastError === undefined ? {} : { last_error: lastError }),
    ...(isUser || history === undefined ? {} : { history: history.map(attemptView) }),
  };
}

function waitingView(
  { code, message, ahead, startsInSeconds, retryAtMs }: Waiting,
  isUser: boolean,
): components['schemas']['JobWaiting'] {
  return {
    code,
    message: isUser && code === 'no_worker' ? 'no worker takes jobs of this kind now' : message,
    ahead,
    starts_in_seconds: startsInSeconds,
    ...(retryAtMs === undefined ? {} : { retry_at: iso(retryAtMs) }),
  };
}

function attemptView(ended: EndedAttempt): components['schemas']['EndedAttempt'] {
  const { attempt, outcome, workerId, startedAtMs, endedAtMs, error } = ended;
  return {
    attempt,
    outcome,
    ...(workerId === undefined ? {} : { worker_id: workerId }),
    started_at: iso(startedAtMs),
    ended_at: iso(endedAtMs),
    ...(error === undefined ? {} : { error }),
  };
}
