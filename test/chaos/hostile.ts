import { randomBytes } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import type { JobStatus } from '../../src/services/queue/job-store.js';
import { largestPayloadBytes } from '../../src/services/queue/read-payload.js';

/** What stands for the origin of the reference server until it is known. */
export const referenceOrigin = 'http://references.invalid';

export interface Hostile {
  name: string;
  payload: string | Buffer;
  /** How a job with it may end; empty: it is no job, and kept as a dead letter. */
  outcomes: readonly JobStatus[];
}

interface PlainJob {
  id: string;
  prompt: string;
}

/** Payloads as no honest producer writes them; those that mean a job all the same are to be drawn. */
const payloads: Record<string, (job: PlainJob) => Omit<Hostile, 'name'>> = {
  'no UTF-8': (job) => ({
    payload: Buffer.from(JSON.stringify({ ...job, prompt: 'ÿþý' }), 'latin1'),
    outcomes: [],
  }),
  'raw line break': (job) => ({
    payload: JSON.stringify({ ...job, prompt: 'two lines' }).replace('two lines', 'two\nlines'),
    outcomes: [],
  }),
  NaN: (job) => ({
    payload: JSON.stringify({ ...job, extra: 0 }).replace('"extra":0', '"extra":NaN'),
    outcomes: [],
  }),
  'leading zero': (job) => ({
    payload: JSON.stringify({ ...job, extra: 7 }).replace('"extra":7', '"extra":007'),
    outcomes: [],
  }),
  'too large': (job) => ({
    payload: JSON.stringify({ ...job, extra: 'x'.repeat(largestPayloadBytes) }),
    outcomes: [],
  }),
  'nested deeply': (job) => ({
    payload: JSON.stringify({ ...job, extra: 0 }).replace(
      '"extra":0',
      `"extra":${'['.repeat(50_000)}${']'.repeat(50_000)}`,
    ),
    outcomes: ['failed'],
  }),
  'byte order mark': (job) => ({ payload: `\uFEFF${JSON.stringify(job)}`, outcomes: ['completed'] }),
  'JSON in JSON': (job) => ({ payload: JSON.stringify(JSON.stringify(job)), outcomes: ['completed'] }),
  'id in capitals': (job) => ({
    payload: JSON.stringify({ ...job, id: job.id.toUpperCase() }),
    outcomes: ['completed'],
  }),
  __proto__: (job) => ({
    payload: JSON.stringify({ ...job, extra: 0 }).replace('"extra":0', '"__proto__":{"type":"nonsense"}'),
    outcomes: ['completed'],
  }),
};

/** Pictures a job refers to, by what their server does. */
const references: Record<string, { outcomes: readonly JobStatus[] }> = {
  'over-64-kib': { outcomes: ['completed'] },
  'breaks-twice': { outcomes: ['completed'] },
  drips: { outcomes: ['failed'] },
  endless: { outcomes: ['failed'] },
  text: { outcomes: ['failed'] },
  truncated: { outcomes: ['failed'] },
  'redirects-inside': { outcomes: ['failed'] },
  'redirects-for-ever': { outcomes: ['failed'] },
};

const nameAt = (names: Record<string, unknown>, index: number) =>
  Object.keys(names)[index % Object.keys(names).length] as string;

export function hostilePayload<T extends PlainJob>(index: number, job: T): Hostile {
  const name = nameAt(payloads, index);
  return { name, ...(payloads[name] as (typeof payloads)[string])(job) };
}

export function hostileReference<T extends PlainJob>(index: number, job: T): Hostile {
  const name = nameAt(references, index);
  const metadata = { reference_image_url: `${referenceOrigin}/${name}/${job.id}`, reference_strength: 0.5 };
  return { name, payload: JSON.stringify({ ...job, metadata }), ...(references[name] as { outcomes: [] }) };
}

/** A server of pictures that does to each request what the first part of its path says. */
export async function startReferenceServer() {
  const noise = await sharp(randomBytes(200 * 200 * 3), { raw: { width: 200, height: 200, channels: 3 } })
    .png()
    .toBuffer();
  const asked = new Map<string, number>();
  let ended = false;

  const behaviours: Record<string, (response: ServerResponse, times: number) => void | Promise<void>> = {
    'over-64-kib': (response) => void response.writeHead(200, { 'content-type': 'image/png' }).end(noise),
    'breaks-twice'(response, times) {
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': noise.length });
      if (times > 2) return void response.end(noise);
      response.write(noise.subarray(0, 1000), () => response.destroy());
    },
    /** Slowly, then not at all; who comes for the third time is told the truth. */
    async drips(response, times) {
      if (times > 2) return void response.writeHead(404).end();
      response.writeHead(200, { 'content-type': 'image/png', 'content-length': noise.length });
      for (let at = 0; at < 10 && !ended && !response.destroyed; at += 1) {
        response.write(noise.subarray(at, at + 1));
        await sleep(1000);
      }
      response.destroy();
    },
    async endless(response) {
      response.writeHead(200, { 'content-type': 'image/png' });
      const chunk = Buffer.alloc(256 * 1024, 1);
      while (!ended && !response.destroyed)
        if (!response.write(chunk))
          await new Promise((resolve) => response.once('drain', resolve).once('close', resolve));
    },
    text: (response) =>
      void response.writeHead(200, { 'content-type': 'image/png' }).end('This is no picture.'),
    truncated: (response) =>
      void response.writeHead(200, { 'content-type': 'image/png' }).end(noise.subarray(0, noise.length / 2)),
    'redirects-inside': (response) =>
      void response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end(),
    'redirects-for-ever': (response, times) =>
      void response.writeHead(302, { location: `/redirects-for-ever/${times}` }).end(),
  };

  const server = createServer((request, response) => {
    const route = request.url ?? '/';
    const [, name = ''] = route.split('/');
    const times = (asked.get(route) ?? 0) + 1;
    asked.set(route, times);
    response.on('error', () => undefined);
    void behaviours[name]?.(response, times);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    /** As an allow list wants it. */
    host,
    /** The payload with this server's address in place of the stand-in. */
    withOrigin: (payload: string | Buffer) =>
      typeof payload === 'string' ? payload.replaceAll(referenceOrigin, `http://${host}`) : payload,
    requests: () => [...asked.values()].reduce((sum, times) => sum + times, 0),
    close: () =>
      new Promise<void>((resolve) => {
        ended = true;
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
