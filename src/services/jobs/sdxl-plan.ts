import type { LoadResult } from '../../inference/engine-protocol.js';
import type {
  ImageFormat,
  ReferenceType,
  SdxlGenerateParams,
  SdxlGenerateResult,
  SdxlSchedulerName,
  WeightedPhrase,
} from '../../inference/generation.js';
import { parsePrompt, type PromptNote } from '../../lib/prompt-weights.js';
import type { Engines } from '../engines/engines.js';
import type { NegativePrompts } from '../models/negative-prompts.js';
import { catalogue, defaultReferenceStrength } from '../catalogue.js';
import { defaultSchedulers, type World } from '../models/model-folders.js';
import { compelOff, dropTags, engineNotes, formatWeight, parseCompelWeights } from './compel-weights.js';
import type { ValidJob } from './payload.js';
import {
  drawnMetadata,
  type FieldNotes,
  type GenerationPlan,
  notesOf,
  parametersText,
  type PlannedReference,
  seedFromId,
  worldNotes,
} from './plan.js';

export interface SdxlPlanOptions {
  engines: Pick<Engines, 'call' | 'status'>;
  negativePrompts: NegativePrompts;
  /** False: prompts are taken literally on this instance, and weights are not applied. */
  compel?: boolean;
  scheduler?: SdxlSchedulerName;
  /** What the model asks for instead of the job type's. */
  steps?: number | undefined;
  guidanceScale?: number | undefined;
  /** What the model knows, where that is little. */
  world?: World | undefined;
  format?: ImageFormat;
  /** Latent previews for followers of the job, every n steps; 0 for none. */
  previewEverySteps?: number;
  version: string;
}

/** Without a size in the job and in the model folder: what SDXL was trained on. */
const fallbackSize = 1024;

/** Plans an SDXL job: weights, negative prompt, sizes and seeds decided here, the drawing left to the engine. */
export function planSdxlJob(
  job: ValidJob,
  {
    engines,
    negativePrompts,
    compel: compelHere = true,
    scheduler = defaultSchedulers.sdxl,
    world,
    format = 'png',
    previewEverySteps = 5,
    version,
    ...wishes
  }: SdxlPlanOptions,
): GenerationPlan {
  const type = catalogue[job.type];
  const { steps = type.steps, guidanceScale = type.guidanceScale } = wishes;
  const config = job.config ?? {};
  const loaded = engines.status('sdxl').loaded;
  const { width, height } = sizeOf(config, loaded, world);
  const numImages = config.num_images ?? 1;
  const seed = config.seed ?? seedFromId(job.id);
  const compelAsked = job.compel_enabled === true;
  const compel = readCompel(job, compelHere);
  const words = dropTags(job.prompt);
  const negative =
    config.negative_prompt === undefined || config.negative_prompt === null
      ? negativePrompts.forPrompt(words.text)
      : { text: config.negative_prompt, source: 'job', scene: null };
  const reference = referenceOf(job);
  const unwanted = dropTags(negative.text ?? '');
  const parseWeights = compelHere && job.compel_enabled !== false;
  if (parseWeights) {
    parsePrompt(words.text, 'both', words.notes);
    parsePrompt(unwanted.text, 'both', unwanted.notes);
  }
  const notes: FieldNotes = [
    ['prompt', words.notes],
    ['config.negative_prompt', unwanted.notes],
    ['compel_weights', compel.notes],
    ...worldNotes(world, words.text, [
      ['config.width', config.width, world?.size.width ?? width],
      ['config.height', config.height, world?.size.height ?? height],
    ]),
  ];

  const base: Omit<SdxlGenerateParams, 'outputDir' | 'prompt' | 'parametersText' | 'reference'> = {
    jobId: job.id,
    negativePrompt: negative.text === null ? null : unwanted.text,
    parseWeights,
    weights: compel.weights,
    steps,
    guidanceScale,
    scheduler,
    width,
    height,
    seed,
    numImages,
    format,
    previewEverySteps,
    explain: config.explain === true,
  };

  return {
    estimateKey: ['sdxl', width, height, steps, numImages, reference === null ? 'text' : 'reference'].join(
      ' ',
    ),
    stages: new Set(
      ['references', 'text', 'reference', 'denoise', 'decode', 'encode', 'upload'].filter(
        (stage) => reference !== null || !stage.startsWith('reference'),
      ) as Array<'text'>,
    ),
    references: reference === null ? [] : [reference.planned],
    prompt: words.text,
    metadata: {
      seed,
      seeds: Array.from({ length: numImages }, (_, index) => seed + index),
      num_images: numImages,
      compel_enabled: compelHere && compelAsked,
      compel_weights: (compelHere && compelAsked && job.compel_weights) || null,
      ...compel.metadata,
      prompt_notes: notesOf(...notes),
      negative_prompt: base.negativePrompt,
      negative_prompt_source: negative.source,
      scene: negative.scene,
      guidance_scale: guidanceScale,
      steps,
      scheduler,
      width,
      height,
      reference_mode: reference === null ? 'none' : reference.type,
      reference_strength: reference?.strength ?? null,
      ...(reference === null ? {} : { reference_type: reference.type }),
    },
    async generate({ outputDir, prompt, references, signal, onEvent, expectedStageSeconds }) {
      const path = references.get('reference');
      const result = await engines.call(
        'sdxl',
        'sdxl.generate',
        {
          ...base,
          outputDir,
          prompt,
          parametersText: parametersText(
            { ...base, prompt: [prompt, ...compel.weights.map(formatWeight)].join(', ') },
            {
              Steps: base.steps,
              Sampler: base.scheduler,
              'CFG scale': base.guidanceScale,
              Seed: '{seed}',
              Size: `${width}x${height}`,
              Model: loaded?.model.name,
              Version: `ourvidz ${version}`,
            },
          ),
          ...(reference !== null && path !== undefined
            ? { reference: { path, type: reference.type, strength: reference.strength } }
            : {}),
        },
        { signal, onEvent, ...(expectedStageSeconds === undefined ? {} : { expectedStageSeconds }) },
      );
      return {
        files: result.files,
        timings: result.timings,
        metadata: {
          ...outcomeMetadata(result, compel, engines.status('sdxl').loaded ?? loaded),
          prompt_notes: notesOf(...notes, ...engineNotes(result)),
        },
      };
    },
  };
}

interface CompelReading {
  weights: WeightedPhrase[];
  dropped: Array<WeightedPhrase & { reason: string }>;
  notes: PromptNote[];
  metadata: Record<string, unknown>;
}

function readCompel(job: ValidJob, compelHere: boolean): CompelReading {
  const text = job.compel_weights ?? '';
  const none = { weights: [], dropped: [], notes: [] };
  const unused = { compel_success: false, enhancement_strategy: 'none', final_prompt_type: 'string' };
  if (job.compel_enabled !== true || text.trim() === '') return { ...none, metadata: unused };
  if (!compelHere) return { ...none, metadata: { ...unused, compel_error: compelOff } };
  const parsed = parseCompelWeights(text);
  if (!parsed.valid)
    return {
      ...none,
      notes: parsed.notes,
      metadata: { ...unused, enhancement_strategy: 'fallback', compel_error: parsed.reason },
    };
  return {
    weights: parsed.weights,
    dropped: parsed.dropped,
    notes: parsed.notes,
    metadata: {
      compel_success: true,
      enhancement_strategy: 'compel',
      final_prompt_type: 'conditioning_tensor',
      ...(parsed.normalised.length > 0 ? { compel_weights_normalised: parsed.normalised } : {}),
    },
  };
}

function outcomeMetadata(
  result: SdxlGenerateResult,
  compel: CompelReading,
  loaded: LoadResult | null,
): Record<string, unknown> {
  const dropped = [...compel.dropped, ...result.weightsDropped];
  // Every weight overran the window: the picture was drawn from the plain prompt.
  const nothingLeft = compel.weights.length > 0 && result.weightsUsed.length === 0;
  return {
    ...(nothingLeft
      ? {
          compel_success: false,
          enhancement_strategy: 'fallback',
          final_prompt_type: 'string',
          compel_error: dropped[0]?.reason ?? 'no weight could be applied',
        }
      : {}),
    ...(compel.weights.length > 0
      ? { compel_weights_used: result.weightsUsed, compel_weights_dropped: dropped }
      : {}),
    ...drawnMetadata(result, loaded),
  };
}

function referenceOf(
  job: ValidJob,
): { planned: PlannedReference; type: ReferenceType; strength: number } | null {
  const metadata = job.metadata ?? {};
  if (metadata.reference_image_url === undefined || metadata.reference_image_url === null) return null;
  return {
    planned: { role: 'reference', url: metadata.reference_image_url, field: 'metadata.reference_image_url' },
    type: metadata.reference_type ?? 'style',
    strength: metadata.reference_strength ?? defaultReferenceStrength,
  };
}

function sizeOf(
  config: NonNullable<ValidJob['config']>,
  loaded: LoadResult | null,
  world: World | undefined,
): { width: number; height: number } {
  return {
    width: config.width ?? loaded?.model.defaultWidth ?? world?.size.width ?? fallbackSize,
    height: config.height ?? loaded?.model.defaultHeight ?? world?.size.height ?? fallbackSize,
  };
}
