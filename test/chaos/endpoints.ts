import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Random } from './random.js';

export interface SeenCallback {
  index: number;
  webhookId: string;
  jobId: string;
  status: 'processing' | 'completed' | 'failed';
  assets: string[];
  /** The receiver kept it, whether or not the sender learned so. */
  kept: boolean;
}
export interface StoredObject {
  sha256: string;
  bytes: number;
  puts: number;
}

/** What the storage says of an expired key. */
export const refusedKey = 'jwt expired';
const keyOf = ({ headers }: IncomingMessage) =>
  String(headers.apikey ?? headers.authorization ?? '').replace(/^Bearer /, '');

/**
 * Where services store and call back: the storage API and the callback function of one Supabase project, as
 * far as a worker uses them, over real HTTP. Both fail a share of the requests, in every way they can: an
 * error before anything happened, an error or a broken connection after it happened. `setDown` breaks every
 * connection; the key of one service can be refused, as an expired one is.
 */
export async function startEndpoints({ random, failureRate }: { random: Random; failureRate: number }) {
  const callbacks: SeenCallback[] = [];
  const objects = new Map<string, StoredObject>();
  const buckets = new Set<string>();
  const counts = { requests: 0, failed: 0, refusedWhileDown: 0, refusedKeys: 0 };
  const expired = new Map<string, number>();
  const refusals = new Map<string, number>();
  let down = false;

  /** What becomes of a request: done and answered, or one of the ways to fail. */
  function fate(): 'fine' | 'error before' | 'error after' | 'broken after' {
    if (!random.chance(failureRate)) return 'fine';
    counts.failed += 1;
    return (['error before', 'error after', 'broken after'] as const)[random.index(3)] ?? 'error before';
  }

  function answer(response: ServerResponse, status: number, body: object) {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  function handle(request: IncomingMessage, response: ServerResponse, body: Buffer) {
    const route = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
    if ((expired.get(keyOf(request)) ?? 0) > 0) {
      counts.refusedKeys += 1;
      refusals.set(keyOf(request), (refusals.get(keyOf(request)) ?? 0) + 1);
      return route.endsWith('/job-callback')
        ? answer(response, 401, { msg: 'Invalid JWT' })
        : answer(response, 400, { statusCode: '403', error: 'Unauthorized', message: refusedKey });
    }
    const ends = fate();
    if (ends === 'error before') {
      if (route.endsWith('/job-callback')) note(request, body, false);
      return answer(response, 503, { error: 'unavailable' });
    }
    const done = act(request, route, body);
    if (ends === 'broken after') return void request.socket.destroy();
    if (ends === 'error after')
      return answer(response, 500, {
        statusCode: '500',
        error: 'internal',
        message: 'failed after it was done',
      });
    return answer(response, done.status, done.body);
  }

  function note(request: IncomingMessage, body: Buffer, kept: boolean) {
    const {
      job_id: jobId,
      status,
      assets,
    } = JSON.parse(body.toString('utf8')) as {
      job_id: string;
      status: SeenCallback['status'];
      assets: string[];
    };
    callbacks.push({
      index: callbacks.length,
      webhookId: String(request.headers['webhook-id'] ?? request.headers['idempotency-key'] ?? ''),
      // As the producer wrote it; ids are compared in lower case.
      jobId: jobId.toLowerCase(),
      status,
      assets,
      kept,
    });
  }

  function act(request: IncomingMessage, route: string, body: Buffer): { status: number; body: object } {
    if (route.endsWith('/job-callback')) {
      note(request, body, true);
      return { status: 200, body: { success: true } };
    }
    const signed = /^\/storage\/v1(\/object\/sign\/(.+))$/.exec(route);
    if (signed !== null && request.method === 'POST')
      return objects.has(signed[2] ?? '')
        ? { status: 200, body: { signedURL: `${signed[1]}?token=signed` } }
        : { status: 400, body: { statusCode: '404', error: 'not_found', message: 'Object not found' } };
    const object = /^\/storage\/v1\/object\/([^/]+)\/(.+)$/.exec(route);
    if (object !== null && (request.method === 'POST' || request.method === 'PUT')) {
      const [, bucket = '', path = ''] = object;
      if (!buckets.has(bucket))
        return {
          status: 400,
          body: { statusCode: '404', error: 'Bucket not found', message: 'Bucket not found' },
        };
      const before = objects.get(`${bucket}/${path}`);
      if (before !== undefined && request.method === 'POST' && request.headers['x-upsert'] !== 'true')
        return {
          status: 400,
          body: { statusCode: '409', error: 'Duplicate', message: 'The resource already exists' },
        };
      objects.set(`${bucket}/${path}`, {
        sha256: createHash('sha256').update(body).digest('hex'),
        bytes: body.length,
        puts: (before?.puts ?? 0) + 1,
      });
      return { status: 200, body: { Id: path, Key: `${bucket}/${path}` } };
    }
    const removed = /^\/storage\/v1\/object\/([^/]+)$/.exec(route);
    if (removed !== null && request.method === 'DELETE') {
      const { prefixes } = JSON.parse(body.toString('utf8')) as { prefixes: string[] };
      for (const prefix of prefixes) objects.delete(`${removed[1]}/${prefix}`);
      return { status: 200, body: [] };
    }
    const bucket = /^\/storage\/v1\/bucket(?:\/([^/]+))?$/.exec(route);
    if (bucket !== null && request.method === 'POST') {
      const { name } = JSON.parse(body.toString('utf8')) as { name: string };
      if (buckets.has(name))
        return {
          status: 400,
          body: { statusCode: '409', error: 'Duplicate', message: 'The resource already exists' },
        };
      buckets.add(name);
      return { status: 200, body: { name } };
    }
    if (bucket?.[1] !== undefined) {
      return buckets.has(bucket[1])
        ? { status: 200, body: { id: bucket[1], name: bucket[1], public: false } }
        : {
            status: 400,
            body: { statusCode: '404', error: 'Bucket not found', message: 'Bucket not found' },
          };
    }
    if (bucket !== null) return { status: 200, body: [...buckets].map((name) => ({ id: name, name })) };
    return {
      status: 404,
      body: { statusCode: '404', error: 'not_found', message: `no route ${request.method} ${route}` },
    };
  }

  const server = createServer((request, response) => {
    counts.requests += 1;
    if (down) {
      counts.refusedWhileDown += 1;
      return void request.socket.destroy();
    }
    const chunks: Buffer[] = [];
    request.on('error', () => undefined);
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => handle(request, response, Buffer.concat(chunks)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    callbacks,
    objects,
    counts,
    refusals: (key: string) => refusals.get(key) ?? 0,
    /** Until it is renewed as often. */
    expire: (key: string) => void expired.set(key, (expired.get(key) ?? 0) + 1),
    renew: (key: string) => void expired.set(key, (expired.get(key) ?? 0) - 1),
    setDown(next: boolean) {
      down = next;
      if (next) server.closeAllConnections();
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
export type Endpoints = Awaited<ReturnType<typeof startEndpoints>>;
