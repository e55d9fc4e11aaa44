import { readFile } from 'node:fs/promises';
import path from 'node:path';
import {
  flowSchedulerNames,
  sdxlSchedulerNames,
  type FlowSchedulerName,
  type SdxlSchedulerName,
} from '../../inference/generation.js';
import type { Scene } from './scene-detector.js';

/**
 * What a model folder asks for in its `ourvidz.json`; a folder without one asks for nothing. Settings of the
 * service go first.
 */
export interface SdxlSettings {
  autoNegative?: boolean | Record<Scene, string>;
  withoutNegative?: 'zeros' | 'empty';
  /** The sampler it was scored with. */
  scheduler?: SdxlSchedulerName;
}

/** Where neither the operator nor the model folder names one. */
export const defaultSchedulers = { sdxl: 'dpmpp_2m_karras', wan: 'unipc' } as const;

/** The same of a WAN folder. */
export interface WanSettings {
  /** False: without a negative prompt; a text: this one. */
  autoNegative?: boolean | string;
  scheduler?: FlowSchedulerName;
  /** `sample_shift` of jobs that name none. */
  shift?: number;
}

export async function readSdxlSettings(modelDir: string): Promise<SdxlSettings> {
  const { autoNegative, withoutNegative, scheduler } = await readSettings(modelDir);
  const settings: SdxlSettings = {};
  if (typeof autoNegative === 'boolean' || isSceneTexts(autoNegative)) settings.autoNegative = autoNegative;
  if (withoutNegative === 'zeros' || withoutNegative === 'empty') settings.withoutNegative = withoutNegative;
  const known = sdxlSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) settings.scheduler = known;
  return settings;
}

export async function readWanSettings(modelDir: string): Promise<WanSettings> {
  const { autoNegative, scheduler, shift } = await readSettings(modelDir);
  const settings: WanSettings = {};
  if (typeof autoNegative === 'boolean' || typeof autoNegative === 'string')
    settings.autoNegative = autoNegative;
  if (typeof shift === 'number' && shift > 0 && shift <= 100) settings.shift = shift;
  const known = flowSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) settings.scheduler = known;
  return settings;
}

async function readSettings(modelDir: string): Promise<Record<string, unknown>> {
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
