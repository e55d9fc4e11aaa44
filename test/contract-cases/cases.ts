import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { QueueName } from '../../src/services/catalogue.js';
import { projectRoot } from '../../src/lib/project.js';

/**
 * One case of `cases.json`: a queue string as producers send it and what must come of it, alone and among all the
 * others in any order. `completed`: a callback with so many assets and at least these metadata (numbers within
 * 1e-6); `failed`: a callback whose message begins with `error_prefix` and names the field, and nothing computed;
 * `dead_letter`: the string unchanged on the dead-letter list, with a callback where `callback` says so.
 */
export interface ContractCase {
  name: string;
  queue: QueueName;
  /** The exact string that goes on the list. */
  payload: string;
  expect:
    | { status: 'completed'; assets: number; metadata: Record<string, unknown> }
    | { status: 'failed'; error_prefix: string; names: string; error_type: string }
    | { status: 'dead_letter'; callback: boolean };
}

/** All cases, with `{ASSET}` replaced by the origin of the test's asset server. */
export function loadCases(assetOrigin: string): ContractCase[] {
  const { cases } = JSON.parse(
    readFileSync(path.join(projectRoot(), 'test/contract-cases/cases.json'), 'utf8'),
  ) as { cases: ContractCase[] };
  return cases.map((one) => ({ ...one, payload: one.payload.replaceAll('{ASSET}', assetOrigin) }));
}

/** The `id` a receiver would see in a callback about this payload, when there is a readable one. */
export function jobIdOf(one: ContractCase): string | undefined {
  try {
    const { id } = JSON.parse(one.payload) as { id?: unknown };
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined;
  }
}

/** A seeded order, so that a failing one can be repeated (mulberry32 and Fisher–Yates). */
export function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const result = [...items];
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as T, result[last] as T];
  }
  return result;
}
