import { createConnector, createOutages } from '../queue/redis/connection.js';
import { digestOf, type SessionKey, type SessionLimits, type SessionStore, type Turn } from './sessions.js';

export interface RedisSessionOptions extends SessionLimits {
  url: string;
  ca?: string | undefined;
  /** Of all keys. Default `ourvidz:`. */
  prefix?: string;
}

/**
 * One step, so that two replicas never leave a list without its end of life. The set orders conversations by
 * their last turn; entries of lists that ended by themselves leave it when they are as old as the time to
 * live.
 */
const appendScript = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local list, set, turn, digest = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local ttl, max_turns, max_sessions, prefix = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
redis.call('RPUSH', list, turn)
redis.call('LTRIM', list, -max_turns, -1)
redis.call('PEXPIRE', list, ttl)
redis.call('ZADD', set, now, digest)
redis.call('ZREMRANGEBYSCORE', set, '-inf', now - ttl)
local surplus = redis.call('ZCARD', set) - max_sessions
if surplus > 0 then
  for _, old in ipairs(redis.call('ZRANGE', set, 0, surplus - 1)) do
    redis.call('DEL', prefix .. old)
    redis.call('ZREM', set, old)
  end
end
redis.call('PEXPIRE', set, ttl)
return 1`;

/** Conversations that any replica continues. Calls fail while the server cannot be reached. */
export function createRedisSessions({
  url,
  ca,
  prefix = 'ourvidz:',
  ttlMs,
  maxTurns,
  maxSessions,
}: RedisSessionOptions): SessionStore {
  // The queue is on the same server and tells of its outages.
  const outages = createOutages(undefined);
  const connector = createConnector({ url, ca, outages });
  // A user waits for the answer: a server that is away is given up on soon.
  const redis = connector.connect('sessions', { maxRetriesPerRequest: 1 });
  const listPrefix = `${prefix}session:`;
  const set = `${prefix}sessions`;

  return {
    ...outages.naming({ read, append, forget }),
    close() {
      connector.disconnectAll();
      return Promise.resolve();
    },
  };

  async function read(key: SessionKey): Promise<Turn[]> {
    const turns = await redis.lrange(`${listPrefix}${digestOf(key)}`, 0, -1);
    return turns.map(parseTurn).filter((turn) => turn !== null);
  }

  async function append(key: SessionKey, { prompt, answer }: Turn): Promise<void> {
    const digest = digestOf(key);
    const turn = JSON.stringify({ prompt, answer });
    const list = `${listPrefix}${digest}`;
    await redis.eval(appendScript, 2, list, set, turn, digest, ttlMs, maxTurns, maxSessions, listPrefix);
  }

  async function forget(key: SessionKey): Promise<void> {
    const digest = digestOf(key);
    // No transaction: a full server refuses those, though these only free memory.
    await Promise.all([redis.del(`${listPrefix}${digest}`), redis.zrem(set, digest)]);
  }
}

/** Another version may have written something else: that turn is forgotten, the conversation goes on. */
function parseTurn(text: string): Turn | null {
  try {
    const { prompt, answer } = JSON.parse(text) as Partial<Turn>;
    return typeof prompt === 'string' && typeof answer === 'string' ? { prompt, answer } : null;
  } catch {
    return null;
  }
}
