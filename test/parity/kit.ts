import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/project-root.js';

/** Recorded references beside the checkout; `PARITY_KIT` names another folder in the same format. */
export const kitFolder = process.env['PARITY_KIT'] ?? path.join(projectRoot(), '../shared/parity');

/** True when the kit is there; otherwise the test says loudly what it did not check. */
export function requireKit(t: Test, name: string): boolean {
  if (existsSync(path.join(kitFolder, name))) return true;
  t.comment(`NOT CHECKED: ${kitFolder}/${name} is absent, so nothing was compared with the recorded references`);
  if (process.env['CI'] === 'true') t.fail(`in CI the recorded references must be there: ${name}`);
  else t.pass(`skipped without ${name}`);
  return false;
}

export async function readCases<T>(name: string): Promise<T> {
  const text = await readFile(path.join(kitFolder, name), 'utf8');
  // Python writes infinities bare, which JSON does not know
  return JSON.parse(text.replaceAll(/(?<=[:,[] *)-?(Infinity|NaN)(?=[,\]}\s])/g, 'null')) as T;
}

/** Largest |a - b| / max(1, |b|); NaN anywhere is infinitely far. */
export function worstDifference(actual: ArrayLike<number>, expected: ArrayLike<number>, relative = false): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < actual.length; i += 1) {
    const reference = expected[i] as number;
    const difference = Math.abs((actual[i] as number) - reference) / (relative ? Math.max(1, Math.abs(reference)) : 1);
    if (Number.isNaN(difference)) return Infinity;
    worst = Math.max(worst, difference);
  }
  return worst;
}
