import { createHash } from 'node:crypto';
import type { QueueName } from '../../catalogue.js';
import { readPayload, type PayloadRead } from '../read-payload.js';

/** Payloads asked for at a time, and when more are asked for. */
const payloadsAhead = 32;
const fewAhead = 8;

export interface Guess {
  sha1: string;
  read: PayloadRead;
}

export const sha1Of = (payload: Buffer) => createHash('sha1').update(payload).digest('hex');

/**
 * What the next calls will probably take from a list: told beforehand whose it is, Redis takes and begins it in one step.
 * Wrong guesses cost nothing but that step; where others take from the list as well, none are made for a while.
 */
export function createLookahead(queue: QueueName) {
  let guesses: Guess[] = [];
  let sentSinceAsked: number | undefined;
  let rest = 0;

  return {
    /** For one call: what it may find, and how many payloads it is to bring from behind that. */
    next(): { guess: Guess | undefined; ask: number } {
      if (sentSinceAsked !== undefined) sentSinceAsked += 1;
      rest = Math.max(0, rest - 1);
      const guess = guesses.shift();
      const asks = sentSinceAsked === undefined && rest === 0 && guesses.length < fewAhead;
      if (asks) sentSinceAsked = 0;
      return { guess, ask: asks ? payloadsAhead : 0 };
    },
    /** What a call that had asked brought; nothing where it failed or found nothing. */
    brought(payloads: Buffer[]): void {
      const taken = sentSinceAsked ?? 0;
      sentSinceAsked = undefined;
      guesses = payloads
        .slice(taken)
        .map((payload) => ({ sha1: sha1Of(payload), read: readPayload(payload, queue) }));
    },
    missed(): void {
      guesses = [];
      rest = payloadsAhead;
    },
  };
}
