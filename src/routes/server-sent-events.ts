import { Readable } from 'node:stream';
import type { FastifyReply } from 'fastify';

export interface ServerSentEvent {
  id?: number;
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
