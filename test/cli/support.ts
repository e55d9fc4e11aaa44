import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { ownProgram } from '../../src/lib/processes.js';

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;

export async function startDouble(t: Test, handler: Handler) {
  const requests: Array<{ line: string; headers: IncomingMessage['headers']; body: string }> = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += String(chunk);
    });
    request.on('end', () => {
      requests.push({ line: `${request.method} ${request.url}`, headers: request.headers, body });
      handler(request, response, body);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

export function startCli(args: string[], cwd: string, env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [...ownProgram('src/cli/main'), ...args], {
    cwd,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    output.stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += String(chunk);
  });
  const done = once(child, 'close').then(([code]) => ({ code: code as number, ...output }));
  return { child, output, done };
}
export const runCli = (args: string[], cwd: string) => startCli(args, cwd).done;

/** As a shell takes it. */
export const quoted = (words: readonly string[]) =>
  words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');

export const json = (response: ServerResponse, status: number, body: unknown) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
export const jobOf = (id: string, status: string, extra: object = {}) => ({
  id,
  type: 'sdxl_image_fast',
  status,
  progress: { stage: 'done', step: 0, steps: 0, fraction: 1, eta_seconds: null },
  attempts: 1,
  prompt: 'a red circle',
  assets: [],
  metadata: {},
  created_at: '2025-01-01T00:00:00Z',
  ...extra,
});
export const accept = (response: ServerResponse, body: string) =>
  json(response, 202, { id: (JSON.parse(body) as { id: string }).id, status: 'queued', queue_position: 0 });

/** A double whose only job is over by the time it is asked for; `onAsset` answers for its files. */
export const startFinished = (
  t: Test,
  job: ReturnType<typeof jobOf>,
  onAsset: (response: ServerResponse) => unknown = () => {},
) =>
  startDouble(t, (request, response, body) => {
    if (request.method === 'POST') return accept(response, body);
    if (request.url?.endsWith('/events'))
      return response.writeHead(200, { 'content-type': 'text/event-stream' }).end();
    if (request.url?.startsWith('/assets/')) return onAsset(response);
    return json(response, 200, job);
  });
