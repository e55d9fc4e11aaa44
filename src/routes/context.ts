import { setMaxListeners } from 'node:events';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Registry } from 'prom-client';
import type { OpenApiDocument } from '../contract/document.js';
import { linkSignal } from '../lib/wait.js';
import type { KeyRing } from '../plugins/api-keys.js';
import type { Services } from '../services/index.js';
import { Readable } from 'node:stream';

/** What handlers work with. */
export interface RouteContext {
  services: Services;
  keys: Pick<KeyRing, 'issue' | 'sessions'>;
  document: OpenApiDocument;
  registry: Registry;
  disconnect: DisconnectSignals;
  facts: ServiceFacts;
}

/** Facts of this process that answers repeat. */
export interface ServiceFacts {
  version: string;
  /** Name of this instance among those that share the queue. */
  workerId: string;
  bodyLimitBytes: number;
  maxWaitingJobs: number;
  /** What a job is sampled with that names nothing. */
  schedulers: Record<'sdxl' | 'wan', string>;
  /** Whether prompt weights are applied here. */
  compel: boolean;
  /** Features the configuration leaves off, each with the reason. */
  featuresOff: Array<{ feature: string; reason: string }>;
}

/** So often a stream asks whether its reader's token, session or key is still good. */
const identifyMs = 5000;

/**
 * Signals that abort when the client goes away, or when the service begins to stop: slow work is never done
 * for nobody, and an open event stream never holds up a shutdown.
 */
export function createDisconnectSignals(app: FastifyInstance) {
  const closing = new AbortController();
  // One listener for each open stream, however many there are.
  setMaxListeners(0, closing.signal);
  app.addHook('preClose', async () => {
    closing.abort(new Error('the service is stopping'));
    // Fastify closes connections that are idle now; those whose stream ends a moment later would be kept
    // alive by their clients.
    const sweep = setInterval(() => app.server.closeIdleConnections(), 50).unref();
    app.server.once('close', () => clearInterval(sweep));
  });

  function linkTo(reply: FastifyReply) {
    const link = linkSignal(closing.signal);
    const gone = () => {
      link.release();
      link.abort(new Error('the client went away'));
    };
    // It may have gone while something else was waited for: that is not said twice.
    if (reply.raw.destroyed) gone();
    else reply.raw.once('close', gone);
    return link;
  }

  return {
    of: (reply: FastifyReply): AbortSignal => linkTo(reply).signal,
    /** For a stream without an end of its own: aborts as well when its reader is let in no more. */
    ofStream({ identify }: FastifyRequest, reply: FastifyReply): AbortSignal {
      const link = linkTo(reply);
      if (link.signal.aborted) return link.signal;
      const look = setInterval(() => {
        void Promise.resolve(identify?.())
          .catch(() => null)
          .then((caller) => {
            if (caller === null) link.abort(new Error('the key or token of the reader is good no more'));
          });
      }, identifyMs).unref();
      link.signal.addEventListener('abort', () => clearInterval(look), { once: true });
      return link.signal;
    },
  };
}
export type DisconnectSignals = ReturnType<typeof createDisconnectSignals>;

export interface ServerSentEvent {
  id?: number | string;
  event: string;
  data: unknown;
}

const heartbeatMs = 15_000;
/** What a browser waits before it reconnects. */
const retryMs = 2000;

/**
 * Sends events as they come and ends with them; a comment every 15 s keeps proxies from closing a quiet
 * stream. `events` must end when the reader goes away: pass it the request's signal.
 */
export function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<ServerSentEvent>,
  { everyMs = heartbeatMs } = {},
): FastifyReply {
  return (
    reply
      .type('text/event-stream; charset=utf-8')
      .header('cache-control', 'no-store')
      // nginx would collect the events before it passes them on
      .header('x-accel-buffering', 'no')
      .send(Readable.from(frames(events, everyMs), { objectMode: false }))
  );
}

async function* frames(events: AsyncIterable<ServerSentEvent>, everyMs: number): AsyncGenerator<string> {
  yield `retry: ${retryMs}\n\n`;
  const iterator = events[Symbol.asyncIterator]();
  let next = iterator.next();
  try {
    for (;;) {
      const arrived = await Promise.race([next, after(everyMs, next)]);
      if (arrived === 'quiet') {
        yield ': still here\n\n';
        continue;
      }
      if (arrived.done === true) return;
      yield format(arrived.value);
      next = iterator.next();
    }
  } finally {
    await iterator.return?.();
  }
}

/** Resolves after a while, and drops its timer when the event comes first. */
function after(ms: number, event: Promise<unknown>): Promise<'quiet'> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve('quiet'), ms);
    const stop = () => clearTimeout(timer);
    event.then(stop, stop);
  });
}

/** Thousands may follow one job, and a preview is long: each event is written out once. */
const written = new WeakMap<object, string>();

function format(sent: ServerSentEvent): string {
  const { id, event, data } = sent;
  const known = written.get(sent);
  if (known !== undefined) return known;
  const text = `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  written.set(sent, text);
  return text;
}
