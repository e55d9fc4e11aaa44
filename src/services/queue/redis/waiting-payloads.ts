import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isJobType, queueNames, type QueueName } from '../../catalogue.js';
import { largestPayloadBytes, readPayload, type PayloadRead } from '../read-payload.js';
import type { RunScript } from './scripts.js';

/** How far into a list payloads are read, and how many bytes of them. */
const mostPayloads = 10_000;
const mostBytes = 64 * 1024 * 1024;
const payloadsPerCall = 500;
/** An answer may be this old; it is then forgotten. */
const goodForMs = 1000;
/** Looking takes no more than a twentieth of the time, however many ask. */
const restPerLook = 20;

/** A payload that has no record yet. */
export interface WaitingPayload {
  read: PayloadRead;
  queue: QueueName;
  payload: Buffer;
  /** Of its entry, once it was taken from the list: reserved (no position), or handed back. */
  token: string;
  queuedAtMs: number | null;
  position: number | null;
}

/**
 * One call of look.lua: payloads behind the first `skip`, and how many to pass over next time (null at the
 * end).
 */
export async function lookAt(run: RunScript, queue: QueueName, skip: number, most: number) {
  const answer = await run.raw('look', queue, skip, most, largestPayloadBytes);
  const [next, ...payloads] = answer as [number, ...Buffer[]];
  return { next: next < 0 ? null : next, payloads };
}

/**
 * Finds what waits and has no record, by id. A producer's list has no index: everything that waits is read at
 * once, for all who ask meanwhile.
 */
export function createWaitingPayloads(run: RunScript) {
  let latest: { byId: Map<string, WaitingPayload[]>; endedAt: number; tookMs: number } | undefined;
  let coming: Promise<Map<string, WaitingPayload[]>> | undefined;
  let looking: Promise<unknown> = Promise.resolve();

  async function read(): Promise<Map<string, WaitingPayload[]>> {
    const startedAt = performance.now();
    const byId = new Map<string, WaitingPayload[]>();
    const add = (waiting: WaitingPayload) => {
      const { id } = waiting.read;
      if (id !== '') byId.set(id, [...(byId.get(id) ?? []), waiting]);
    };
    for (const queue of queueNames) {
      const [delayed, ...entries] = (await run.raw('recordless', queue)) as [
        number,
        ...[Buffer, Buffer, number, number][],
      ];
      for (const [payload, token, queuedAtMs, position] of entries)
        add({
          read: readPayload(payload, queue),
          queue,
          payload,
          token: token.toString(),
          queuedAtMs,
          position: position < 0 ? null : position,
        });
      let seen = 0;
      let bytes = 0;
      for (let skip: number | null = 0; skip !== null && seen < mostPayloads && bytes < mostBytes;) {
        const { next, payloads } = await lookAt(run, queue, skip, payloadsPerCall);
        for (const payload of payloads) {
          const position = delayed + seen;
          add({ read: readPayload(payload, queue), queue, payload, token: '', queuedAtMs: null, position });
          seen += 1;
          bytes += payload.length;
        }
        skip = next;
      }
    }
    latest = { byId, endedAt: performance.now(), tookMs: performance.now() - startedAt };
    setTimeout(() => {
      if (latest !== undefined && performance.now() - latest.endedAt >= goodForMs) latest = undefined;
    }, goodForMs + 10).unref();
    return byId;
  }

  /** A look that begins after this call. */
  function look(): Promise<Map<string, WaitingPayload[]>> {
    coming ??= looking.then(async () => {
      const rested = performance.now() - (latest?.endedAt ?? -Infinity);
      const restMs = Math.min(goodForMs, (latest?.tookMs ?? 0) * restPerLook) - rested;
      if (restMs > 0) await sleep(restMs);
      coming = undefined;
      const reading = read();
      looking = reading.catch(() => undefined);
      return reading;
    });
    coming.catch(() => {
      coming = undefined;
    });
    return coming;
  }

  return {
    /**
     * One of each id that has no record, in the order of ids: what stands where in a line changes all the time.
     * Those of a kind that nobody knows are no jobs.
     */
    async recordless(): Promise<WaitingPayload[]> {
      const isGood = latest !== undefined && performance.now() - latest.endedAt < goodForMs;
      const byId = isGood && latest !== undefined ? latest.byId : await look();
      const ids = [...byId].filter(([, [first]]) => isJobType(first?.read.type)).map(([id]) => id);
      const found: string[] = [];
      for (let begin = 0; begin < ids.length; begin += payloadsPerCall)
        found.push(
          ...((await run(
            'recordless-ids',
            queueNames[0],
            ...ids.slice(begin, begin + payloadsPerCall),
          )) as string[]),
        );
      return found.sort().flatMap((id) => byId.get(id)?.slice(0, 1) ?? []);
    },
    /** Every payload with this id; `now` asks for what waits at this moment, not a second ago. */
    async find(id: string, { now = false } = {}): Promise<WaitingPayload[]> {
      const isGood = latest !== undefined && performance.now() - latest.endedAt < goodForMs;
      const known = isGood && !now ? latest?.byId.get(id) : undefined;
      return known ?? (await look()).get(id) ?? [];
    },
  };
}

/** Payloads asked for at a time, and when more are asked for. */
const payloadsAhead = 32;
const fewAhead = 8;

interface Guess {
  sha1: string;
  read: PayloadRead;
}

export const sha1Of = (payload: Buffer) => createHash('sha1').update(payload).digest('hex');

/**
 * What the next calls will probably take from a list: told beforehand whose it is, Redis takes and begins it
 * in one step. Wrong guesses cost nothing but that step; where others take from the list as well, none are
 * made for a while.
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
