import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { isLoneFile, isSdxlFile, originalLayout } from '../../inference/checkpoint/model-layout.js';
import type { EngineKind } from '../../inference/engine-protocol.js';
import {
  flowSchedulerNames,
  sdxlSchedulerNames,
  type FlowSchedulerName,
  type SdxlSchedulerName,
} from '../../inference/generation.js';
import type { Scene } from './negative-prompts.js';

/**
 * `dir` may be a file: a single-file checkpoint that lies in the models folder as it came. `completionDir`: the
 * base model's folder, where `dir` holds an instruct model only.
 */
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
  let files: string[] = [];
  let problem = '';
  try {
    const entries = await readdir(modelsDir, { withFileTypes: true });
    const named = (wanted: (entry: (typeof entries)[number]) => boolean) =>
      entries
        .filter(wanted)
        .map(({ name }) => name)
        .sort();
    files = named((entry) => !entry.isDirectory() && entry.name.endsWith('.safetensors'));
    names = named((entry) => entry.isDirectory() || entry.isSymbolicLink()).filter(
      (name) => !files.includes(name),
    );
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
  const sdxl = find('sdxl');
  return {
    sdxl: sdxl.dir === null ? ((await findLoneFile(modelsDir, files)) ?? sdxl) : sdxl,
    wan: find('wan'),
    qwen: withBaseModel(find('qwen'), names),
  };
}

/** A single-file SDXL that was put into the models folder without a folder of its own. */
async function findLoneFile(modelsDir: string, files: readonly string[]): Promise<ModelFolder | null> {
  const checkpoints: string[] = [];
  // what is no checkpoint, or a damaged one, is passed over: adapters lie there, too
  for (const file of files)
    if (await isSdxlFile(path.join(modelsDir, file)).catch(() => false)) checkpoints.push(file);
  const [only, ...others] = checkpoints;
  if (only === undefined) return null;
  if (others.length === 0) return { dir: path.join(modelsDir, only) };
  const reason = `${modelsDir} holds ${checkpoints.length} SDXL checkpoints: ${checkpoints.join(', ')}`;
  return { dir: null, reason: `${reason}. Put the one to use into a folder sdxl-NAME` };
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
  /** Instead of the job type's: a distilled model draws in few steps, and most without guidance. */
  steps?: number;
  guidanceScale?: number;
  world?: World;
}

type Preset = Required<Pick<SdxlSettings, 'scheduler' | 'steps' | 'guidanceScale'>>;

/** Checkpoints distilled to few steps, by what their publishers put into the name. Guidance of 1 is none. */
const distilled: ReadonlyArray<{ name: RegExp } & Preset> = [
  // Lin et al. 2024, arXiv 2402.13929
  { name: /lightning/i, scheduler: 'euler_trailing', steps: 4, guidanceScale: 1 },
  // Ren et al. 2024, arXiv 2404.13686: DDIM on trailing timesteps, which is Euler
  { name: /hyper[-_]?sd/i, scheduler: 'euler_trailing', steps: 8, guidanceScale: 1 },
  // Sauer et al. 2023, arXiv 2311.17042
  { name: /turbo/i, scheduler: 'euler_ancestral_trailing', steps: 4, guidanceScale: 1 },
  // Luo et al. 2023, arXiv 2310.04378
  { name: /(?<![a-z])lcm(?![a-z])/i, scheduler: 'lcm', steps: 4, guidanceScale: 1 },
];
const statedSteps = /(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])/i;
const mostSteps = 50;

/** What the name of the folder, or of the one file in it, says; else its scheduler or its UNet. */
async function distilledPreset(modelDir: string): Promise<Partial<Preset>> {
  const weights = originalLayout('sdxl', modelDir)?.['unet'] ?? '';
  const names = [path.basename(modelDir), path.basename(weights)].join(' ');
  const { _class_name: own } = await readJson(modelDir, 'scheduler/scheduler_config.json');
  const { time_cond_proj_dim: guided } = await readJson(modelDir, 'unet/config.json');
  const isConsistent = own === 'LCMScheduler' || typeof guided === 'number';
  const found = distilled.find(
    ({ name, scheduler }) => name.test(names) || (scheduler === 'lcm' && isConsistent),
  );
  if (found === undefined) return {};
  const stated = Number(statedSteps.exec(names)?.[1]);
  const { scheduler, guidanceScale } = found;
  return { scheduler, guidanceScale, steps: stated >= 1 && stated <= mostSteps ? stated : found.steps };
}

/** Where neither the operator nor the model folder names one. */
export const defaultSchedulers = { sdxl: 'dpmpp_2m_karras', wan: 'unipc' } as const;

/** The same of a WAN folder. */
interface WanSettings {
  /** False: without a negative prompt; a text: this one. */
  autoNegative?: boolean | string;
  scheduler?: FlowSchedulerName;
  /** `sample_shift` of jobs that name none, in place of the 5.0 of every other folder. */
  shift?: number;
  world?: World;
}

/** What a small model knows; a folder that does not say so is taken to know what people ask for. */
export interface World {
  /** Ends a sentence: "it draws …". */
  draws: string;
  /** What it was trained on; other sizes fall apart. */
  size: { width: number; height: number };
  frames?: number;
  mostFrames?: number;
  mostOfAKind?: number;
  /** Different things in one picture. */
  mostThings?: number;
  /** By kind. `grammar` and `quality` are read, and draw nothing; `shapes` are counted as things. */
  words: Readonly<Record<string, readonly string[]>>;
  examples: readonly string[];
}

/** Null for what is not of this form. */
function readWorld(value: unknown): World | null {
  const { draws, size, words, examples, ...limits } = (value ?? {}) as Record<string, unknown>;
  const isTexts = (list: unknown): list is string[] =>
    Array.isArray(list) && list.every((one) => typeof one === 'string');
  const { width, height } = (size ?? {}) as Record<string, unknown>;
  if (typeof draws !== 'string' || typeof width !== 'number' || typeof height !== 'number') return null;
  if (typeof words !== 'object' || words === null || !isTexts(examples)) return null;
  const lists = Object.entries(words).map(([kind, list]): [string, string[]] => [
    kind,
    String(list).toLowerCase().split(/\s+/),
  ]);
  const numbers = Object.entries(limits).filter(([, limit]) => typeof limit === 'number');
  return {
    draws,
    size: { width, height },
    words: Object.fromEntries(lists),
    examples,
    ...Object.fromEntries(numbers),
  };
}

export async function readSdxlSettings(modelDir: string): Promise<SdxlSettings> {
  const { autoNegative, withoutNegative, scheduler, steps, guidanceScale, world } =
    await readSettings(modelDir);
  const settings: SdxlSettings = await distilledPreset(modelDir);
  if (typeof autoNegative === 'boolean' || isSceneTexts(autoNegative)) settings.autoNegative = autoNegative;
  if (withoutNegative === 'zeros' || withoutNegative === 'empty') settings.withoutNegative = withoutNegative;
  const known = sdxlSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) settings.scheduler = known;
  if (Number.isInteger(steps) && (steps as number) >= 1 && (steps as number) <= mostSteps)
    settings.steps = steps as number;
  if (typeof guidanceScale === 'number' && guidanceScale >= 1 && guidanceScale <= 30)
    settings.guidanceScale = guidanceScale;
  const knows = readWorld(world);
  if (knows !== null) settings.world = knows;
  return settings;
}

export async function readWanSettings(modelDir: string): Promise<WanSettings> {
  const { autoNegative, scheduler, shift, world } = await readSettings(modelDir);
  const settings: WanSettings = {};
  if (typeof autoNegative === 'boolean' || typeof autoNegative === 'string')
    settings.autoNegative = autoNegative;
  if (typeof shift === 'number' && shift > 0 && shift <= 100) settings.shift = shift;
  const known = flowSchedulerNames.find((name) => name === scheduler);
  if (known !== undefined) settings.scheduler = known;
  const knows = readWorld(world);
  if (knows !== null) settings.world = knows;
  return settings;
}

/** Of a checkpoint that lies alone in the models folder: `NAME.ourvidz.json` beside `NAME.safetensors`. */
const readSettings = (modelDir: string) =>
  isLoneFile(modelDir)
    ? readJson(path.dirname(modelDir), `${path.basename(modelDir, '.safetensors')}.ourvidz.json`)
    : readJson(modelDir, 'ourvidz.json');

/** Empty where there is no such file. */
async function readJson(modelDir: string, name: string): Promise<Record<string, unknown>> {
  const file = path.join(modelDir, name);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return {};
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
