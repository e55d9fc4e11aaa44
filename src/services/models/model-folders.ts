import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { EngineKind } from '../../inference/engine-protocol.js';
import {
  flowSchedulerNames,
  sdxlSchedulerNames,
  type FlowSchedulerName,
  type SdxlSchedulerName,
} from '../../inference/generation.js';
import type { Scene } from './scene-detector.js';

/** `completionDir`: the base model's folder, where `dir` holds an instruct model only. */
export type ModelFolder = { dir: string; completionDir?: string } | { dir: null; reason: string };

/** Names of the reference layout, most exact first; the pocket models are called like their engine. */
const namesOf: Record<EngineKind, RegExp[]> = {
  sdxl: [/^sdxl$/i, /^sdxl[-_.]/i, /^stable-diffusion-xl/i],
  wan: [/^wan$/i, /^wan2\.1-(?:t2v|vace)-1\.3b$/i, /^wan/i],
  qwen: [/^qwen$/i, /^qwen2\.5-7b-instruct$/i, /^qwen[\w.-]*-instruct/i, /^qwen/i],
};
const instructModel = /-instruct/i;

/** Which folder under the models folder belongs to which engine, or why there is none. */
export async function findModelFolders(modelsDir: string): Promise<Record<EngineKind, ModelFolder>> {
  let names: string[] = [];
  let problem = '';
  try {
    names = (await readdir(modelsDir, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map((entry) => entry.name)
      .sort();
  } catch (error) {
    problem = ` (${(error as NodeJS.ErrnoException).code ?? String(error)})`;
  }
  const find = (kind: EngineKind): ModelFolder => {
    for (const pattern of namesOf[kind]) {
      const name = names.find((each) => pattern.test(each));
      if (name !== undefined) return { dir: path.join(modelsDir, name) };
    }
    return { dir: null, reason: `there is no ${kind} model folder in ${modelsDir}${problem}` };
  };
  return { sdxl: find('sdxl'), wan: find('wan'), qwen: withBaseModel(find('qwen'), names) };
}

/** `Qwen2.5-7B` stands beside `Qwen2.5-7B-Instruct`: the one completes, the other one chats. */
function withBaseModel(found: ModelFolder, names: readonly string[]): ModelFolder {
  if (found.dir === null || !instructModel.test(path.basename(found.dir))) return found;
  const wanted = path.basename(found.dir).split(instructModel)[0]?.toLowerCase();
  const base = names.find((name) => name.toLowerCase() === wanted);
  return base === undefined ? found : { ...found, completionDir: path.join(path.dirname(found.dir), base) };
}

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
interface WanSettings {
  /** False: without a negative prompt; a text: this one. */
  autoNegative?: boolean | string;
  scheduler?: FlowSchedulerName;
  /** `sample_shift` of jobs that name none; the folder's own scheduler says it where `ourvidz.json` does not. */
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
  const own = shift ?? (await readJson(modelDir, 'scheduler/scheduler_config.json'))['flow_shift'];
  if (typeof own === 'number' && own > 0 && own <= 100) settings.shift = own;
  const known = flowSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) settings.scheduler = known;
  return settings;
}

const readSettings = (modelDir: string) => readJson(modelDir, 'ourvidz.json');

/** Empty where there is no such file. */
async function readJson(modelDir: string, name: string): Promise<Record<string, unknown>> {
  const file = path.join(modelDir, name);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new Error(`${file} must hold an object`);
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
