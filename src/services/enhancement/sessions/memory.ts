import { digestOf, type SessionLimits, type SessionStore, type Turn } from './types.js';

/** Conversations of this process alone; gone with it. */
export function createMemorySessions({ ttlMs, maxTurns, maxSessions }: SessionLimits, now: () => number = Date.now): SessionStore {
  // Every append puts its conversation last: the first ones of the map are those that rested longest.
  const sessions = new Map<string, { turns: Turn[]; untilMs: number }>();

  function dropOld(): void {
    for (const [digest, { untilMs }] of sessions) {
      if (untilMs > now() && sessions.size <= maxSessions) break;
      sessions.delete(digest);
    }
  }

  return {
    read(key) {
      const found = sessions.get(digestOf(key));
      return Promise.resolve(found === undefined || found.untilMs <= now() ? [] : [...found.turns]);
    },
    async append(key, turn) {
      const turns = [...await this.read(key), { ...turn }].slice(-maxTurns);
      sessions.delete(digestOf(key));
      sessions.set(digestOf(key), { turns, untilMs: now() + ttlMs });
      dropOld();
    },
    forget(key) {
      sessions.delete(digestOf(key));
      return Promise.resolve();
    },
    close() {
      sessions.clear();
      return Promise.resolve();
    },
  };
}
