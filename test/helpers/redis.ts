import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Test } from 'tap';
import { findFreePort } from '../../src/lib/processes.js';
import { endWithThisProcess } from './processes.js';

export interface RedisServer {
  url: string;
  port: number;
  /** Stops it where it is, or lets it go on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  /** Ends the process at once, as a crash does. */
  kill(): Promise<void>;
  /** Starts it again on the same port and, with persistence, the same data. */
  start(): Promise<void>;
  /** Ends it and removes its folder. */
  stop(): Promise<void>;
}

/** True when a redis-server is on the PATH. */
export function hasRedisServer(): boolean {
  return spawnSync('redis-server', ['--version']).status === 0;
}

/**
 * Whether tests against a real Redis can run. Where they cannot, the test says so and is skipped; in CI that
 * is a failure.
 */
export function redisOrSkip(t: Test): boolean {
  if (hasRedisServer()) return true;
  const message =
    'redis-server is not installed (Debian: apt-get install redis-server): nothing of the Redis queue is tested';
  if (process.env['CI'] === 'true') t.fail(message);
  else t.pass(message, { skip: message });
  return false;
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const end = (result: boolean) => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => end(data.toString().startsWith('+PONG')));
    socket.once('error', () => end(false));
    socket.setTimeout(500, () => end(false));
  });
}

/**
 * A redis-server of its own on a free port. `fsync` keeps an append-only file: `always` loses nothing that
 * was acknowledged, `everysec` is what most installations run; without it nothing is written to disk.
 */
export async function startRedis(options: { fsync?: 'always' | 'everysec' } = {}): Promise<RedisServer> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'redis-'));
  const port = await findFreePort();
  const persistence =
    options.fsync === undefined
      ? ['--appendonly', 'no']
      : ['--appendonly', 'yes', '--appendfsync', options.fsync];
  let child: ChildProcess | undefined;

  async function start() {
    const started = endWithThisProcess(
      spawn(
        'redis-server',
        ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', ...persistence],
        { stdio: 'ignore' },
      ),
    );
    child = started;
    for (let attempt = 0; attempt < 200; attempt += 1) {
      if (started.exitCode !== null)
        throw new Error(`redis-server ended with ${started.exitCode} on port ${port}`);
      if (await answers(port)) return;
      await sleep(25);
    }
    throw new Error(`redis-server does not answer on port ${port}`);
  }

  async function kill() {
    const ending = child;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const ended = new Promise((resolve) => {
      ending.once('exit', resolve);
    });
    ending.kill('SIGKILL');
    await ended;
  }

  await start();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    signal: (signal) => void child?.kill(signal),
    kill,
    start,
    async stop() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A server of the test's own and a client of it; both end with the test. */
export async function openRedis(t: Pick<Test, 'teardown'>): Promise<{ server: RedisServer; redis: Redis }> {
  const server = await startRedis();
  const redis = new Redis(server.url);
  t.teardown(async () => {
    redis.disconnect();
    await server.stop();
  });
  return { server, redis };
}
