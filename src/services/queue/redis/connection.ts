import { Redis, type RedisOptions } from 'ioredis';
import { sentinelAddress } from '../../../lib/environment.js';
import type { createOutages } from './outages.js';

export interface ConnectorOptions {
  /** `redis://`, `rediss://` (TLS), or one of the two with `+sentinel` and the name of the master. */
  url: string;
  /** Certificates (PEM) of the authority that signed the server's, in place of the public ones. */
  ca?: string | undefined;
  outages: Pick<ReturnType<typeof createOutages>, 'failed' | 'isDemotion'>;
  answerTimeoutMs?: number | undefined;
}

/** So often at most every connection is opened anew because a server was found demoted. */
const leastReconnectMs = 1000;

/** Opens connections of one server with one policy. */
export function createConnector({ url, ca, outages, answerTimeoutMs = 5000 }: ConnectorOptions) {
  const open = new Set<Redis>();
  let reconnectedAtMs = -Infinity;
  const address = addressOptions(url, ca);

  function connect(
    role: string,
    change: Pick<
      RedisOptions,
      'autoResendUnfulfilledCommands' | 'enableReadyCheck' | 'maxRetriesPerRequest' | 'socketTimeout'
    > = {},
  ): Redis {
    const options = {
      // Upstash and older proxies speak RESP2 in any case.
      protocol: 2 as const,
      connectionName: `ourvidz-${role}`,
      disableClientInfo: true,
      connectTimeout: 10_000,
      // A request must not hang while the server is away; whoever needs persistence repeats the call.
      maxRetriesPerRequest: 3,
      // Nor on a connection that says nothing (a path that swallows packets closes none): what it owes is
      // asked again on a new one. A connection that owes nothing may be silent.
      socketTimeout: answerTimeoutMs,
      retryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 500),
      sentinelRetryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 500),
      keepAlive: 30_000,
      // A server that still loads its data says so to every call; otherwise calls would wait until it is done.
      enableReadyCheck: false,
      reconnectOnError: (error: Error) => {
        if (outages.isDemotion(error)) reconnectAll();
        // The call itself is refused: whoever made it may repeat it, and nobody hangs until the failover ends.
        return false;
      },
      ...address,
      ...change,
    };
    const redis = 'sentinels' in address ? new Redis(options) : new Redis(url, options);
    redis.on('error', (error: Error) => outages.failed(error));
    open.add(redis);
    redis.once('end', () => open.delete(redis));
    return redis;
  }

  /**
   * A failover behind a stable address leaves open connections on the demoted server, those that only listen,
   * too: the address is asked again for all of them.
   */
  function reconnectAll(): void {
    if (performance.now() - reconnectedAtMs < leastReconnectMs) return;
    reconnectedAtMs = performance.now();
    // After the answers that have come with this one.
    setImmediate(() => {
      for (const redis of open) if (redis.status === 'ready') redis.disconnect(true);
    });
  }

  return {
    connect,
    disconnectAll() {
      for (const redis of open) redis.disconnect();
    },
  };
}

function addressOptions(url: string, ca: string | undefined) {
  const tls = ca === undefined ? {} : { ca };
  const sentinel = sentinelAddress(url);
  if (sentinel === null) return url.startsWith('rediss:') ? { tls } : {};
  const { isTls, ...address } = sentinel;
  return { ...address, ...(isTls ? { tls, sentinelTLS: tls, enableTLSForSentinelMode: true } : {}) };
}
