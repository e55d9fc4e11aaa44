import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
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

/** What tests run against; another server that speaks its protocol can be named (Valkey, an older Redis). */
const redisProgram = process.env['OURVIDZ_TEST_REDIS'] ?? 'redis-server';

/** True when a redis-server is on the PATH. */
export function hasRedisServer(): boolean {
  return spawnSync(redisProgram, ['--version']).status === 0;
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
    socket.once('data', (data) => end(/^(\+PONG|-NOAUTH)/.test(data.toString())));
    socket.once('error', () => end(false));
    socket.setTimeout(500, () => end(false));
  });
}

/**
 * A redis-server of its own on a free port. `fsync` keeps an append-only file: `always` loses nothing that
 * was acknowledged, `everysec` is what most installations run; without it nothing is written to disk.
 */
export async function startRedis(
  options: { fsync?: 'always' | 'everysec'; args?: string[] } = {},
): Promise<RedisServer> {
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
        redisProgram,
        [
          ...['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''],
          ...['--repl-diskless-sync-delay', '0'],
          ...persistence,
          ...(options.args ?? []),
        ],
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

/**
 * A stable address in front of servers, as a managed Redis has one: new connections go where it points, open
 * ones stay where they are.
 */
export async function startAddress(to: { port: number }) {
  let target = to.port;
  const sockets = new Set<net.Socket>();
  const server = net.createServer((incoming) => {
    const outgoing = net.connect(target, '127.0.0.1');
    for (const socket of [incoming, outgoing]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        incoming.destroy();
        outgoing.destroy();
      });
    }
    incoming.pipe(outgoing).pipe(incoming);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    pointTo(next: { port: number }) {
      target = next.port;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/**
 * Makes `replica` the master without losing what `master` had acknowledged, as a planned failover does; the
 * old master is its replica from then on. The address points to the new one a moment later.
 */
export async function failOver(
  master: RedisServer,
  replica: RedisServer,
  address: Awaited<ReturnType<typeof startAddress>>,
): Promise<void> {
  const [from, to] = [new Redis(master.url), new Redis(replica.url)];
  for (const client of [from, to]) client.on('error', () => undefined);
  const isOver = async () =>
    /role:master/.test(await to.info('replication')) && /role:slave/.test(await from.info('replication'));
  try {
    while (!(await isOver())) {
      if (/master_link_status:up/.test(await to.info('replication')))
        await from.call('FAILOVER', 'TO', '127.0.0.1', replica.port, 'TIMEOUT', 2000).catch(() => undefined);
      for (let looks = 0; looks < 20 && !(await isOver()); looks += 1) await sleep(50);
    }
    await sleep(300);
    address.pointTo(replica);
  } finally {
    from.disconnect();
    to.disconnect();
  }
}

/** A Sentinel that watches the server as `name`, and alone decides on failovers. */
export async function startSentinel(
  master: RedisServer,
  name: string,
  passwords: { master: string; own: string },
) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'sentinel-'));
  const port = await findFreePort();
  const file = path.join(folder, 'sentinel.conf');
  const settings = [
    `port ${port}`,
    `dir ${folder}`,
    `sentinel monitor ${name} 127.0.0.1 ${master.port} 1`,
    `sentinel down-after-milliseconds ${name} 1000`,
    `sentinel failover-timeout ${name} 10000`,
    `sentinel auth-pass ${name} ${passwords.master}`,
    `requirepass ${passwords.own}`,
  ];
  await writeFile(file, settings.join('\n'));
  const child = endWithThisProcess(spawn(redisProgram, [file, '--sentinel'], { stdio: 'ignore' }));
  const client = new Redis({ port, host: '127.0.0.1', password: passwords.own });
  client.on('error', () => undefined);
  await client.ping();
  return {
    port,
    client,
    async stop() {
      client.disconnect();
      child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A server that speaks TLS alone, with a certificate of an authority of its own. */
export async function startTlsRedis() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'tls-'));
  const openssl = (...args: string[]) => {
    const { status, stderr } = spawnSync('openssl', args, { cwd: folder });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr.toString()}`);
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-days', '2', '-subj', '/CN=own', '-keyout', 'ca.key', '-out', 'ca.pem');
  openssl('req', ...key, '-subj', '/CN=redis', '-keyout', 'redis.key', '-out', 'redis.csr');
  await writeFile(path.join(folder, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost');
  const signing = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'names', '-days', '2'];
  openssl('x509', '-req', '-in', 'redis.csr', ...signing, '-out', 'redis.pem');
  const tlsPort = await findFreePort();
  const files = { cert: 'redis.pem', key: 'redis.key', 'ca-cert': 'ca.pem' };
  const server = await startRedis({
    args: [
      ...['--tls-port', String(tlsPort), '--tls-auth-clients', 'no'],
      ...Object.entries(files).flatMap(([what, file]) => [`--tls-${what}-file`, path.join(folder, file)]),
    ],
  });
  return {
    url: `rediss://127.0.0.1:${tlsPort}`,
    caFile: path.join(folder, 'ca.pem'),
    async stop() {
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A replica of the server that has all it has. After a restart it is a server of its own. */
export async function startReplica(
  master: RedisServer,
  { password, ...options }: NonNullable<Parameters<typeof startRedis>[0]> & { password?: string } = {},
): Promise<RedisServer> {
  const replica = await startRedis(options);
  const client = new Redis(replica.url, password === undefined ? {} : { password });
  await client.call('REPLICAOF', '127.0.0.1', master.port);
  while (!/master_link_status:up/.test(await client.info('replication'))) await sleep(20);
  client.disconnect();
  return replica;
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
