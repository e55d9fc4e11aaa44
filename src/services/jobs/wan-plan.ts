import { defaultSchedulers, type World } from '../models/model-folders.js';
import {
  drawnMetadata,
  type GenerationPlan,
  notesOf,
  parametersText,
  seedFromId,
  worldNotes,
} from './plan.js';
import type { TimedStage } from './progress-estimator.js';
import type { ValidJob } from './payload.js';
import { dropTags } from './compel-weights.js';
import { resolveWanReferences, wanGuidance } from './wan-references.js';
import { parsePrompt, partsOf } from '../../lib/prompt-weights.js';
import { catalogue, framesPerSecond, wanFrames } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import type { LoadResult } from '../../inference/engine-protocol.js';
import type {
  FlowSchedulerName,
  ImageFormat,
  WanGenerateParams,
  WanGenerateResult,
} from '../../inference/generation.js';

export interface WanPlanOptions {
  engines: Pick<Engines, 'call' | 'status'>;
  /** Of every job alike: jobs bring none. Null: the empty text. */
  negativePrompt: string | null;
  /** Where the job names none. */
  scheduler?: FlowSchedulerName;
  shift?: number | undefined;
  /** What the model knows, where that is little. */
  world?: World | undefined;
  /** Of pictures and posters. */
  format?: ImageFormat;
  /** H.264 constant rate factor: 0 is lossless, 51 the worst. */
  crf?: number;
  previewEverySteps?: number;
  version: string;
}

const defaultShift = 5;
/** What Wan 2.1 T2V 1.3B was trained on. */
const fallbackSize = { width: 832, height: 480 };
/** Names producers use for the solver. */
const schedulerOfSolver: Readonly<Record<string, FlowSchedulerName>> = {
  unipc: 'unipc',
  'dpm++': 'dpmpp_2m',
  euler: 'euler',
};

/**
 * Plans a WAN job: references, guidance, frames and sizes decided here, pictures and video left to the
 * engine.
 */
export function planWanJob(
  job: ValidJob,
  {
    engines,
    negativePrompt,
    scheduler: usualScheduler = defaultSchedulers.wan,
    shift: usualShift = defaultShift,
    world,
    format = 'png',
    crf = 18,
    previewEverySteps = 5,
    version,
  }: WanPlanOptions,
): GenerationPlan {
  const type = catalogue[job.type];
  const config = job.config ?? {};
  const loaded = engines.status('wan').loaded;
  const references = resolveWanReferences(job);
  const words = dropTags(job.prompt);
  const notes = [...words.notes, ...weightNotes(words.text)];
  const { width, height } = sizeOf(config.size, loaded, world);
  const frames = wanFrames(job.type, config.frame_num ?? loaded?.model.defaultFrames ?? world?.frames);
  const native = world === undefined ? '' : `${world.size.width}*${world.size.height}`;
  const known = worldNotes(world, words.text, [
    ['config.size', config.size?.replace('x', '*'), native],
    [
      'config.frame_num',
      frames > (world?.mostFrames ?? Infinity) ? config.frame_num : undefined,
      `up to ${world?.mostFrames} frames`,
    ],
  ]);
  const steps = config.sample_steps ?? type.steps;
  const guidanceScale = wanGuidance(config.sample_guide_scale ?? type.guidanceScale, references);
  const solver = config.sample_solver ?? undefined;
  const scheduler = solver === undefined ? usualScheduler : (schedulerOfSolver[solver] ?? usualScheduler);
  const shift = config.sample_shift ?? usualShift;
  const seed = config.seed ?? seedFromId(job.id);

  const base: Omit<WanGenerateParams, 'outputDir' | 'prompt' | 'parametersText' | 'references'> = {
    jobId: job.id,
    negativePrompt,
    steps,
    guidanceScale,
    shift,
    scheduler,
    width,
    height,
    frames,
    seed,
    output: type.output,
    format,
    crf,
    framesPerSecond,
    referenceStrength: references.strength,
    previewEverySteps,
    explain: config.explain === true,
  };
  const stages: TimedStage[] = [
    ...(type.enhanced ? ['enhance' as const] : []),
    ...(references.mode === 'none' ? [] : ['references' as const, 'reference' as const]),
    'text',
    'denoise',
    'decode',
    'encode',
    'upload',
  ];

  return {
    estimateKey: [
      'wan',
      type.output,
      width,
      height,
      frames,
      steps,
      guidanceScale > 1 ? 'guided' : 'unguided',
      references.mode,
      type.enhanced ? 'enhanced' : 'plain',
    ].join(' '),
    stages: new Set(stages),
    // Frames go to the encoder while later ones are decoded.
    takingTurns: ['decode', 'encode'],
    references: references.planned,
    prompt: words.text,
    ...(type.enhanced ? { enhancement: enhancementOf(job) } : {}),
    metadata: {
      seed,
      seeds: [seed],
      num_images: 1,
      content_type: type.output,
      frames,
      width,
      height,
      ...(type.output === 'image'
        ? {}
        : {
            fps: framesPerSecond,
            duration_seconds: frames / framesPerSecond,
            ...(config.frame_num === undefined || config.frame_num === null
              ? {}
              : { frames_requested: config.frame_num }),
          }),
      steps,
      guidance_scale: guidanceScale,
      sample_shift: shift,
      scheduler,
      prompt_notes: notesOf(['prompt', notes], ...known),
      negative_prompt: negativePrompt,
      negative_prompt_source: negativePrompt === null ? 'none' : 'automatic',
      reference_mode: references.mode,
      reference_strength: references.strength,
    },
    async generate({ outputDir, prompt, references: fetched, signal, onEvent, expectedStageSeconds }) {
      const paths = Object.fromEntries(
        references.planned.flatMap(({ role }) => {
          const path = fetched.get(role);
          return path === undefined ? [] : [[role, path]];
        }),
      );
      const result = await engines.call(
        'wan',
        'wan.generate',
        {
          ...base,
          outputDir,
          prompt,
          references: paths,
          parametersText: parametersText(
            { prompt, negativePrompt },
            {
              Steps: steps,
              Sampler: scheduler,
              Shift: shift,
              'CFG scale': guidanceScale,
              Seed: seed,
              Size: `${width}x${height}`,
              Frames: type.output === 'video' ? frames : undefined,
              Model: loaded?.model.name,
              Version: `ourvidz ${version}`,
            },
          ),
        },
        { signal, onEvent, ...(expectedStageSeconds === undefined ? {} : { expectedStageSeconds }) },
      );
      const [main, poster] = result.files;
      return {
        files: main === undefined ? [] : [main],
        ...(poster === undefined ? {} : { poster }),
        timings: result.timings,
        metadata: {
          ...outcomeMetadata(result, engines.status('wan').loaded ?? loaded),
          prompt_notes: notesOf(['prompt', [...notes, ...(result.truncated ? [endCut] : [])]], ...known),
        },
      };
    },
  };
}

const withoutWeights = 'has a weight, which WAN does not know: it reads the text as it is written';

const weightNotes = (prompt: string) =>
  partsOf(parsePrompt(prompt))
    .flatMap((part) => part.filter(({ weight }) => weight !== 1))
    .map(({ text }) => ({ text, note: withoutWeights }));

const endCut = { text: '', note: 'has more tokens than the model reads: its end is cut off' };

function enhancementOf({ metadata }: ValidJob): NonNullable<GenerationPlan['enhancement']> {
  return {
    type: metadata?.enhancement_type ?? 'base',
    ...(metadata?.session_id ? { sessionId: metadata.session_id } : {}),
    ...(metadata?.conversation_context ? { context: metadata.conversation_context } : {}),
  };
}

/** Facts the engine measured win over what was planned. */
function outcomeMetadata(result: WanGenerateResult, loaded: LoadResult | null): Record<string, unknown> {
  const [main] = result.files;
  return {
    frames: result.frames,
    ...(main?.durationSeconds === undefined ? {} : { duration_seconds: main.durationSeconds }),
    reference_mode: result.referenceMode,
    ...drawnMetadata(result, loaded),
  };
}

/** `832*480` or `832x480`: width, then height. */
function sizeOf(
  size: string | null | undefined,
  loaded: LoadResult | null,
  world: World | undefined,
): { width: number; height: number } {
  const [width, height] = size?.split(/[*x]/).map(Number) ?? [];
  if (width !== undefined && height !== undefined) return { width, height };
  return {
    width: loaded?.model.defaultWidth ?? world?.size.width ?? fallbackSize.width,
    height: loaded?.model.defaultHeight ?? world?.size.height ?? fallbackSize.height,
  };
}
