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

  function turnsOf(digest: string): Turn[] {
    const found = sessions.get(digest);
    return found === undefined || found.untilMs <= now() ? [] : [...found.turns];
  }

  return {
    read: (key) => Promise.resolve(turnsOf(digestOf(key))),
    // without a pause in between: two answers of one conversation may end together
    append(key, turn) {
      const digest = digestOf(key);
      const turns = [...turnsOf(digest), { ...turn }].slice(-maxTurns);
      sessions.delete(digest);
      sessions.set(digest, { turns, untilMs: now() + ttlMs });
      dropOld();
      return Promise.resolve();
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
