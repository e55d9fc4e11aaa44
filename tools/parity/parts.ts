/** Noise, schedulers, tokens and prompt weights against the kit's records; whole runs are in sdxl.ts. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadClipTokenizer } from '../../src/inference/diffusion/tokenizers.js';
import { parsePrompt, type Fragment } from '../../src/lib/prompt-weights.js';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { readSafetensors } from './safetensors.js';
import { createDpmSolver, createFlowUniPc } from '../../src/inference/diffusion/schedulers/multistep.js';
import { createEuler } from '../../src/inference/diffusion/schedulers/euler.js';
import {
  createFlowEuler,
  flowEulerSigmas,
  flowSigmas,
} from '../../src/inference/diffusion/schedulers/flow.js';
import type { NoiseScheduleConfig } from '../../src/inference/diffusion/schedulers/noise-schedule.js';
import type { ScheduleOptions, Scheduler } from '../../src/inference/diffusion/schedulers/scheduler.js';
import type { SdxlModel } from '../../src/inference/sdxl/model.js';
import { conditionText } from '../../src/inference/sdxl/conditioning.js';
import { frameFragments } from '../../src/inference/sdxl/prompt.js';
import { near, same, type Measure } from './measure.js';

export interface MeasuredCase {
  name: string;
  measures: Measure[];
}

export async function readCases<T>(kit: string, name: string): Promise<T> {
  const text = await readFile(path.join(kit, name), 'utf8');
  // Python writes infinities bare, which JSON does not know
  return JSON.parse(text.replaceAll(/(?<=[:,[] *)-?(Infinity|NaN)(?=[,\]}\s])/g, 'null')) as T;
}

interface RngCase {
  kind: 'single' | 'sequence' | 'batch';
  key?: string;
  keys?: string[];
  seed?: number;
  seeds?: number[];
  shape?: number[];
  shapes?: number[][];
}

export async function measureNoise(kit: string): Promise<MeasuredCase[]> {
  const recorded = await readSafetensors(path.join(kit, 'rng/randn.safetensors'));
  const reference = (key = '') => recorded.get(key)?.data as Float32Array;
  const size = (shape: number[] = []) => shape.reduce((product, extent) => product * extent, 1);
  return (await readCases<RngCase[]>(kit, 'rng/cases.json')).map((item): MeasuredCase => {
    if (item.kind === 'sequence') {
      const generator = createGenerator(item.seed ?? 0);
      return {
        name: `sequence, seed ${item.seed}`,
        measures: (item.keys ?? []).map((key, i) =>
          near(key, generator.randn(size(item.shapes?.[i])), reference(key), 1e-6),
        ),
      };
    }
    const seeds = item.kind === 'batch' ? (item.seeds ?? []) : [item.seed ?? 0];
    const values = seeds.flatMap((seed) => [...createGenerator(seed).randn(size(item.shape) / seeds.length)]);
    return { name: item.key ?? '', measures: [near('noise', values, reference(item.key), 1e-6)] };
  });
}

interface SchedulerCase {
  name: string;
  file: string;
  scheduler: string;
  num_inference_steps: number;
  strength: number | null;
  init_noise_sigma: number;
  config: NoiseScheduleConfig & { use_karras_sigmas?: boolean; flow_shift?: number; shift?: number };
}

function createScheduler({
  scheduler,
  config,
  num_inference_steps: steps,
  strength,
}: SchedulerCase): Scheduler {
  const options: ScheduleOptions = { steps, ...(strength === null ? {} : { strength }) };
  switch (scheduler) {
    case 'EulerDiscreteScheduler':
      return createEuler(config, options);
    case 'EulerAncestralDiscreteScheduler':
      return createEuler(config, { ...options, ancestral: true });
    case 'DPMSolverMultistepScheduler':
      return createDpmSolver(config, { ...options, karras: config.use_karras_sigmas === true });
    case 'UniPCMultistepScheduler':
      return createFlowUniPc(flowSigmas('diffusers', steps, config.flow_shift ?? 1), options);
    case 'FlowMatchEulerDiscreteScheduler':
      return createFlowEuler(flowEulerSigmas(steps, config.shift ?? 1), options);
    default:
      throw new Error(`the kit has a scheduler that is not known: ${scheduler}`);
  }
}

/** The kit's closed-form model, in float32: eps(x, t) = 0.3·x + 0.1·sin(3·x + t/1000). */
const toyModel = (x: Float32Array, timestep: number) =>
  x.map((value) => 0.3 * value + 0.1 * Math.sin(3 * value + timestep / 1000));

export async function measureSchedulers(kit: string): Promise<MeasuredCase[]> {
  const measured: MeasuredCase[] = [];
  for (const item of await readCases<SchedulerCase[]>(kit, 'schedulers/cases.json')) {
    const recorded = await readSafetensors(path.join(kit, 'schedulers', item.file));
    const tensor = (name: string) =>
      Float32Array.from((recorded.get(name)?.data ?? []) as ArrayLike<number>, Number);
    const scheduler = createScheduler(item);
    const noise = tensor('noise');
    const start =
      item.strength === null
        ? noise.map((value) => value * scheduler.initNoiseSigma)
        : scheduler.addNoise(tensor('original'), noise);
    const latents: number[] = [];
    let sample: Float32Array = tensor('start');
    scheduler.timesteps.forEach((timestep, index) => {
      const output = toyModel(scheduler.scaleModelInput(sample, index), timestep);
      sample = scheduler.step(
        index,
        output,
        sample,
        scheduler.needsNoise ? tensor('step_noise').slice(index * 64, index * 64 + 64) : undefined,
      );
      latents.push(...sample);
    });
    measured.push({
      name: item.name,
      measures: [
        near('sigmas', scheduler.sigmas, tensor('sigmas'), 1e-6, true),
        near('timesteps', scheduler.timesteps.map(Math.fround), tensor('timesteps'), 0),
        near('initial noise sigma', [scheduler.initNoiseSigma], [item.init_noise_sigma], 1e-5),
        near('start', start, tensor('start'), 1e-6, true),
        near('latents', latents, tensor('latents'), 1e-5, true),
      ],
    });
  }
  return measured;
}

interface TokenCase {
  text: string;
  input_ids: number[];
  input_ids_2: number[];
  untruncated_ids: number[];
  untruncated_ids_2: number[];
}

const equal = (a: readonly unknown[], b: readonly unknown[]) =>
  a.length === b.length && a.every((value, i) => value === b[i]);

export async function measureTokens(kit: string, models: string): Promise<MeasuredCase[]> {
  const first = await loadClipTokenizer(path.join(models, 'sdxl-tiny/tokenizer'));
  const second = await loadClipTokenizer(path.join(models, 'sdxl-tiny/tokenizer_2'));
  return (await readCases<TokenCase[]>(kit, 'tokenizers/clip/cases.json')).map((item) => ({
    name: JSON.stringify(item.text.slice(0, 50)),
    measures: [
      same('ids', equal([first.bosId, ...first.encode(item.text), first.eosId], item.untruncated_ids)),
      same(
        'ids, second tokenizer',
        equal([second.bosId, ...second.encode(item.text), second.eosId], item.untruncated_ids_2),
      ),
      same('framed', equal(first.frame(first.encode(item.text)), item.input_ids)),
      same('framed, second tokenizer', equal(second.frame(second.encode(item.text)), item.input_ids_2)),
    ],
  }));
}

type Part =
  | { type: 'prompt'; fragments: Array<[string, number]> }
  | { type: 'blend'; prompts: Array<Array<[string, number]>> };
interface CompelCase {
  name: string;
  prompt: string;
  error?: string;
  parsed: { parts: Part[] };
  tokens?: Array<{ input_ids: number[]; input_ids_2: number[]; weights: number[] }>;
}

/** Compel puts blanks around some punctuation; tokens decide, so blanks are not compared. */
const squeeze = (fragments: Fragment[]) =>
  fragments.map(({ text, weight }) => `${text.replaceAll(/\s+/g, '')} ${weight.toFixed(6)}`);

export async function measureCompel(kit: string, model: SdxlModel): Promise<MeasuredCase[]> {
  const recorded = await readSafetensors(path.join(kit, 'compel/compel.safetensors'));
  const measured: MeasuredCase[] = [];
  for (const item of (await readCases<{ cases: CompelCase[] }>(kit, 'compel/cases.json')).cases) {
    const parsed = parsePrompt(item.prompt, 'compel');
    const lists = parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
    const expected = item.parsed.parts
      .flatMap((part) => (part.type === 'blend' ? part.prompts : [part.fragments]))
      .map((fragments) => squeeze(fragments.map(([text, weight]) => ({ text, weight }))));
    const measures = [
      same(
        'fragments and weights',
        equal(
          lists.flatMap((list) => squeeze(list)),
          expected.flat(),
        ),
      ),
    ];
    item.tokens?.forEach((tokens, i) => {
      const [first, second] = model.encoders.map((encoder) => frameFragments(encoder, lists[i] ?? [], 1)[0]);
      measures.push(
        same('ids', equal(first?.ids ?? [], tokens.input_ids)),
        same('ids, second tokenizer', equal(second?.ids ?? [], tokens.input_ids_2)),
        near('token weights', first?.weights ?? [], tokens.weights, 1e-6),
      );
    });
    const reference = recorded.get(`${item.name}/conditioning`);
    // where Compel itself fails nothing is recorded
    if (reference !== undefined || item.error === undefined) {
      const { embeds, pooled } = await conditionText(model, item.prompt, {
        parseWeights: true,
        syntax: 'compel',
      });
      measures.push(
        near('conditioning', embeds, reference?.data as Float32Array, 1e-4),
        near('pooled', pooled, recorded.get(`${item.name}/pooled`)?.data as Float32Array, 1e-4),
      );
    }
    measured.push({ name: item.name, measures });
  }
  return measured;
}
