import { readFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../src/lib/project.js';
import type { HeldOutClip } from './clip.js';
import type { HeldOut } from './judge.js';
import type { HeldOutPrompt } from './prompts.js';

/** The lists that no training drew from: prompts of the picture, the video and the prompt model. */
export const heldOutPictures = (kind?: HeldOut['kind']): HeldOut[] =>
  read<HeldOut>('pocket-sdxl.json').filter((item) => kind === undefined || item.kind === kind);
export const heldOutClips = (): HeldOutClip[] => read('pocket-wan.json');
export const heldOutPrompts = (): HeldOutPrompt[] => read('pocket-qwen.json');

function read<T>(file: string): T[] {
  return JSON.parse(readFileSync(path.join(projectRoot(), 'test/fixtures', file), 'utf8')) as T[];
}

/** Median and 95th percentile of what took so long. */
export function timesOf(milliseconds: readonly number[]): string {
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const at = (share: number) => (sorted[Math.floor(share * (sorted.length - 1))] ?? 0).toFixed(0);
  return `${at(0.5)} ms median, ${at(0.95)} ms 95th percentile`;
}
