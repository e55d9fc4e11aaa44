import { createHash } from 'node:crypto';

/** Conversations of this process alone; gone with it. */
export function createMemorySessions(
  { ttlMs, maxTurns, maxSessions }: SessionLimits,
  now: () => number = Date.now,
): SessionStore {
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

/** One exchange of a conversation: what the user asked and the prompt that was answered. */
export interface Turn {
  prompt: string;
  answer: string;
}

/** Who talks and in which conversation: the same `id` of two owners is two conversations. */
export interface SessionKey {
  /** A digest of the API key, or the user of a job. */
  owner: string;
  id: string;
}

export interface SessionLimits {
  /** A conversation nobody goes on with is forgotten after this long. */
  ttlMs: number;
  /** The oldest turns beyond these are forgotten. */
  maxTurns: number;
  /** The conversations that rested longest beyond these are forgotten. */
  maxSessions: number;
}

/** Memory of conversations. Both implementations pass `test/enhancement/session-suite.ts`. */
export interface SessionStore {
  /**
   * Turns from the oldest to the newest; none for a conversation that is not known. Reading does not prolong
   * it.
   */
  read(key: SessionKey): Promise<Turn[]>;
  append(key: SessionKey, turn: Turn): Promise<void>;
  forget(key: SessionKey): Promise<void>;
  close(): Promise<void>;
}

/**
 * Neither owners nor ids are written out where others may read key names. The length tells where the owner
 * ends.
 */
export function digestOf({ owner, id }: SessionKey): string {
  return createHash('sha256').update(`${owner.length}:${owner}${id}`).digest('base64url');
}
