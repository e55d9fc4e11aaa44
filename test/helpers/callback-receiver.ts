import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { waitFor } from './wait-for.js';

export interface CallbackBody {
  job_id: string;
  status: 'processing' | 'completed' | 'failed';
  assets: string[];
  error_message?: string;
  metadata: Record<string, unknown>;
}

/** One request as it came in, accepted or not. */
export interface ReceivedCallback {
  /** Order of arrival over all jobs, from 0. */
  index: number;
  atMs: number;
  headers: IncomingHttpHeaders;
  raw: string;
  body: CallbackBody;
  /** What was answered. */
  statusCode: number;
}

/**
 * A real HTTP server for callbacks. `respond` decides the status of each request (200 unless it says
 * otherwise), or `hang-up` to drop the connection after reading the body. Change it at any time through
 * `setRespond`.
 */
export async function startCallbackReceiver(options: { respond?: Responder } = {}) {
  const received: ReceivedCallback[] = [];
  let respond: Responder = options.respond ?? (() => 200);
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const raw = Buffer.concat(chunks).toString('utf8');
      const body = JSON.parse(raw) as CallbackBody;
      const answer = respond(body, received.length);
      received.push({
        index: received.length,
        atMs: Date.now(),
        headers: request.headers,
        raw,
        body,
        statusCode: answer === 'hang-up' ? 0 : answer,
      });
      if (answer === 'hang-up') request.destroy();
      else response.writeHead(answer, { 'content-type': 'application/json' }).end('{"success":true}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const accepted = (jobId: string) =>
    received.filter(
      (callback) => callback.body.job_id === jobId && callback.statusCode >= 200 && callback.statusCode < 300,
    );
  const isTerminal = (callback: ReceivedCallback) => callback.body.status !== 'processing';
  return {
    url: `http://127.0.0.1:${port}/functions/v1/job-callback`,
    /** Origin for `SUPABASE_URL`. */
    origin: `http://127.0.0.1:${port}`,
    received,
    setRespond: (next: Responder) => {
      respond = next;
    },
    /** Accepted callbacks of a job in order of arrival, deliveries repeated by the sender included. */
    accepted,
    terminal: (jobId: string) => accepted(jobId).find(isTerminal),
    waitForTerminal: (jobId: string, timeoutMs = 60_000) =>
      waitFor(() => accepted(jobId).find(isTerminal), {
        what: () =>
          `the terminal callback of ${jobId}; it has ${JSON.stringify(accepted(jobId).map((callback) => callback.body))}`,
        timeoutMs,
      }),
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export type Responder = (body: CallbackBody, index: number) => number | 'hang-up';
export type CallbackReceiver = Awaited<ReturnType<typeof startCallbackReceiver>>;
