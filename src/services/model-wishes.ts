import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { sdxlSchedulerNames, type SdxlSchedulerName } from '../inference/engine-protocol.js';
import type { Scene } from './negative-prompt-scene.js';

/** What a model folder asks for in its `ourvidz.json`; a folder without one has no wishes. Settings of the service go first. */
export interface ModelWishes {
  autoNegative?: boolean | Record<Scene, string>;
  withoutNegative?: 'zeros' | 'empty';
  /** The sampler it was scored with. */
  scheduler?: SdxlSchedulerName;
}

export async function readModelWishes(modelDir: string): Promise<ModelWishes> {
  let text: string;
  try {
    text = await readFile(path.join(modelDir, 'ourvidz.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new Error(`${path.join(modelDir, 'ourvidz.json')} must hold an object`);
  const { autoNegative, withoutNegative, scheduler } = value as Record<string, unknown>;
  const wishes: ModelWishes = {};
  if (typeof autoNegative === 'boolean' || isSceneTexts(autoNegative)) wishes.autoNegative = autoNegative;
  if (withoutNegative === 'zeros' || withoutNegative === 'empty') wishes.withoutNegative = withoutNegative;
  const known = sdxlSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) wishes.scheduler = known;
  return wishes;
}

function isSceneTexts(value: unknown): value is Record<Scene, string> {
  return typeof value === 'object' && value !== null && ['none', 'single', 'several'].every((scene) => typeof (value as Record<string, unknown>)[scene] === 'string');
}
