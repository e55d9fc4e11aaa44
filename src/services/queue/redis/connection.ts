import { Redis, type RedisOptions } from 'ioredis';

export interface StoreLog {
  warn(fields: object, message: string): void;
}

/**
 * Opens connections of one server with one policy; their errors are logged, at most one line of a kind per
 * minute.
 */
export function createConnector(url: string, log: StoreLog | undefined, answerTimeoutMs = 5000) {
  const open = new Set<Redis>();
  const loggedAtMs = new Map<string, number>();

  function connect(
    role: string,
    change: Pick<
      RedisOptions,
      'autoResendUnfulfilledCommands' | 'maxRetriesPerRequest' | 'socketTimeout'
    > = {},
  ): Redis {
    const redis = new Redis(url, {
      // Upstash and older proxies speak RESP2 in any case.
      protocol: 2,
      connectionName: `ourvidz-${role}`,
      connectTimeout: 10_000,
      // A request must not hang while the server is away; whoever needs persistence repeats the call.
      maxRetriesPerRequest: 3,
      // Nor on a connection that says nothing (a path that swallows packets closes none): what it owes is
      // asked again on a new
      // one. A connection that owes nothing may be silent.
      socketTimeout: answerTimeoutMs,
      retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 500),
      keepAlive: 30_000,
      ...change,
    });
    redis.on('error', (error: Error) => {
      const key = `${role}: ${error.message}`;
      if (Date.now() - (loggedAtMs.get(key) ?? 0) < 60_000) return;
      loggedAtMs.set(key, Date.now());
      log?.warn({ err: error, role }, 'Redis connection failed');
    });
    open.add(redis);
    redis.once('end', () => open.delete(redis));
    return redis;
  }

  return {
    connect,
    disconnectAll() {
      for (const redis of open) redis.disconnect();
    },
  };
}
