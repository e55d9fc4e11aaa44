import { createHash } from 'node:crypto';

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
  /** Turns from the oldest to the newest; none for a conversation that is not known. Reading does not prolong it. */
  read(key: SessionKey): Promise<Turn[]>;
  append(key: SessionKey, turn: Turn): Promise<void>;
  forget(key: SessionKey): Promise<void>;
  close(): Promise<void>;
}

/** Neither owners nor ids are written out where others may read key names. The length tells where the owner ends. */
export function digestOf({ owner, id }: SessionKey): string {
  return createHash('sha256').update(`${owner.length}:${owner}${id}`).digest('base64url');
}
