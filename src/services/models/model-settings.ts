import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  flowSchedulerNames,
  sdxlSchedulerNames,
  type FlowSchedulerName,
  type SdxlSchedulerName,
} from '../../inference/engine-protocol.js';
import type { Scene } from './scene-detector.js';

/**
 * What a model folder asks for in its `ourvidz.json`; a folder without one has no wishes. Settings of the
 * service go first.
 */
export interface ModelWishes {
  autoNegative?: boolean | Record<Scene, string>;
  withoutNegative?: 'zeros' | 'empty';
  /** The sampler it was scored with. */
  scheduler?: SdxlSchedulerName;
}

/** The same of a WAN folder. */
export interface WanModelWishes {
  /** False: without a negative prompt; a text: this one. */
  autoNegative?: boolean | string;
  scheduler?: FlowSchedulerName;
  /** `sample_shift` of jobs that name none. */
  shift?: number;
}

export async function readModelWishes(modelDir: string): Promise<ModelWishes> {
  const { autoNegative, withoutNegative, scheduler } = await readWishes(modelDir);
  const wishes: ModelWishes = {};
  if (typeof autoNegative === 'boolean' || isSceneTexts(autoNegative)) wishes.autoNegative = autoNegative;
  if (withoutNegative === 'zeros' || withoutNegative === 'empty') wishes.withoutNegative = withoutNegative;
  const known = sdxlSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) wishes.scheduler = known;
  return wishes;
}

export async function readWanWishes(modelDir: string): Promise<WanModelWishes> {
  const { autoNegative, scheduler, shift } = await readWishes(modelDir);
  const wishes: WanModelWishes = {};
  if (typeof autoNegative === 'boolean' || typeof autoNegative === 'string')
    wishes.autoNegative = autoNegative;
  if (typeof shift === 'number' && shift > 0 && shift <= 100) wishes.shift = shift;
  const known = flowSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) wishes.scheduler = known;
  return wishes;
}

async function readWishes(modelDir: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path.join(modelDir, 'ourvidz.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null)
    throw new Error(`${path.join(modelDir, 'ourvidz.json')} must hold an object`);
  return value as Record<string, unknown>;
}

function isSceneTexts(value: unknown): value is Record<Scene, string> {
  return (
    typeof value === 'object' &&
    value !== null &&
    ['none', 'single', 'several'].every(
      (scene) => typeof (value as Record<string, unknown>)[scene] === 'string',
    )
  );
}
