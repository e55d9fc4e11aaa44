import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { iso } from '../lib/units.js';
import { errors } from '../lib/errors.js';
import { withoutCredentials } from '../lib/printable.js';
import { type QueueName, queueNames } from '../services/catalogue.js';
import type { Hold } from '../services/queue/store-parts.js';
import type { RouteContext } from './context.js';

type HoldView = components['schemas']['Hold'];
/** What a key without a name is called. */
const nobody = 'unknown';

/** What was given up, what is held, and what operators can do about it. */
export function operatorRoutes({ services: { store, outlook }, facts }: RouteContext): Handlers {
  async function queueState(queue: QueueName): Promise<components['schemas']['QueueState']> {
    const { paused, waiting, delayed, running, oldestAgeSeconds, ...known } = (await outlook.queues())[queue];
    const { jobSeconds, takers, trouble } = known;
    const isMoving = paused === null && takers > 0 && jobSeconds !== null;
    return {
      queue,
      paused: paused === null ? null : holdView(paused),
      waiting,
      delayed,
      running,
      oldest_age_seconds: oldestAgeSeconds,
      job_seconds: jobSeconds,
      empty_in_seconds: isMoving ? Math.round(((waiting + delayed) * jobSeconds) / takers) : null,
      takers,
      ...(trouble === null ? {} : { trouble }),
    };
  }

  /** The id of an instance, as it is written or by what `self` means. */
  async function requireInstance(asked: string): Promise<string> {
    if (asked === 'self' || asked === facts.workerId) return facts.workerId;
    const isKnown =
      (await store.instances()).some(({ workerId }) => workerId === asked) ||
      (await store.holds.list()).workers.has(asked);
    if (!isKnown) throw errors.notFound(`Instance ${asked}`);
    return asked;
  }

  async function instanceState(workerId: string): Promise<components['schemas']['InstanceState']> {
    const hold = (await store.holds.list()).workers.get(workerId);
    return { worker_id: workerId, draining: hold === undefined ? null : holdView(hold) };
  }

  /** Does it with each letter that is meant, oldest first, and counts. */
  async function withLetters(
    { reason, queue, ids, limit = 1000 }: components['schemas']['DeadLetterSelection'],
    act: (id: string) => Promise<'done' | 'kept' | 'gone'>,
  ): Promise<components['schemas']['DeadLettersDone']> {
    if (reason === undefined && queue === undefined && ids === undefined)
      throw errors.invalidParameters.with({ details: [noLetters] }, noLetters.message);
    const wanted = reason === undefined ? '' : commonReason(reason).toLowerCase();
    const letters = await store.deadLetterIndex();
    const reasonOf = (letter: { reason: string }) => commonReason(letter.reason).toLowerCase();
    // A whole reason means its own letters only, though others say more after it.
    const isWhole = letters.some((letter) => reasonOf(letter) === wanted);
    const meant = letters
      .filter(
        (letter) =>
          (queue === undefined || letter.queue === queue) &&
          (ids === undefined || ids.includes(letter.id)) &&
          (isWhole ? reasonOf(letter) === wanted : reasonOf(letter).includes(wanted)),
      )
      .reverse();
    const counts = { done: 0, kept: 0, more: meant.length > limit };
    // One after the other is put in line: the oldest stands in front.
    for (const { id } of meant.slice(0, limit)) {
      const outcome = await act(id);
      if (outcome !== 'gone') counts[outcome] += 1;
    }
    return counts;
  }

  return {
    async listQueues() {
      return { queues: await Promise.all(queueNames.map(queueState)) };
    },

    async pauseQueue({ params: { queue }, body, caller }) {
      await store.holds.hold({ queue }, { by: caller?.name ?? nobody, ...body });
      outlook.lookAgain();
      return queueState(queue);
    },

    async resumeQueue({ params: { queue } }) {
      await store.holds.release({ queue });
      outlook.lookAgain();
      return queueState(queue);
    },

    async drainInstance({ params: { worker_id: asked }, body, caller }) {
      const workerId = await requireInstance(asked);
      await store.holds.hold({ workerId }, { by: caller?.name ?? nobody, ...body });
      outlook.lookAgain();
      return instanceState(workerId);
    },

    async resumeInstance({ params: { worker_id: asked } }) {
      const workerId = await requireInstance(asked);
      await store.holds.release({ workerId });
      outlook.lookAgain();
      return instanceState(workerId);
    },

    async listDeadLetterReasons() {
      const groups = new Map<string, components['schemas']['DeadLetterReasons']['reasons'][number]>();
      for (const { queue, reason, atMs } of await store.deadLetterIndex()) {
        const common = commonReason(reason);
        const at = iso(atMs);
        const key = `${queue} ${common}`;
        const group = groups.get(key) ?? { reason: common, queue, count: 0, oldest_at: at, newest_at: at };
        groups.set(key, { ...group, count: group.count + 1, oldest_at: at });
      }
      return { reasons: [...groups.values()].sort((a, b) => b.count - a.count) };
    },

    requeueDeadLetters: ({ body }) =>
      withLetters(body, async (id) => {
        const outcome = await store.requeueDeadLetter(id);
        return outcome === 'requeued' ? 'done' : outcome === 'incomplete' ? 'kept' : 'gone';
      }),

    dropDeadLetters: ({ body }) =>
      withLetters(body, async (id) => ((await store.dropDeadLetter(id)) ? 'done' : 'gone')),

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
            at: iso(atMs),
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
          created_at: iso(createdAtMs),
          ...(lastError === undefined ? {} : { last_error: withoutCredentials(lastError) }),
        })),
      };
    },

    async retryCallbacks(request) {
      return { retried: await store.outbox.retryDead(request.body.id) };
    },
  };
}

export function holdView({ sinceMs, by, reason }: Hold): HoldView {
  return { since: iso(sinceMs), by, ...(reason === undefined ? {} : { reason }) };
}

/** What reasons have in common that differ in an id, a number or what somebody wrote in between. */
function commonReason(reason: string): string {
  return reason
    .replaceAll(/\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/gi, '…')
    .replaceAll(/\d+(?:[.,]\d+)*/g, '…');
}

const noLetters = {
  field: 'body',
  rule: 'minProperties',
  message: 'body must name at least one of reason, queue, ids',
};
