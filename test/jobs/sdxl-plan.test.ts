import path from 'node:path';
import t from 'tap';
import type { LoadResult } from '../../src/inference/engine-protocol.js';
import type { SdxlGenerateParams, SdxlGenerateResult } from '../../src/inference/generation.js';
import { projectRoot } from '../../src/lib/project.js';
import type { Engines } from '../../src/services/engines/engines.js';
import { createNegativePrompts } from '../../src/services/models/negative-prompts.js';
import { planSdxlJob } from '../../src/services/jobs/sdxl-plan.js';
import type { ValidJob } from '../../src/services/jobs/payload.js';

const base: ValidJob = {
  id: '6b0b3f0e-8d0a-4a53-9d9c-0d8f1f3f9a55',
  type: 'sdxl_image_fast',
  prompt: 'a red circle',
  user_id: '1e2feb89-414c-443c-9027-c4d1c386bbc4',
};
const negativePrompts = await createNegativePrompts({
  folder: path.join(projectRoot(), 'prompts/negative'),
  enabled: true,
  model: {},
});

/** Records what the engine is asked; answers what a real one would of the weights. */
async function plan(
  job: Partial<ValidJob>,
  {
    loaded = null,
    used,
    ...options
  }: {
    loaded?: LoadResult | null;
    used?: number;
    compel?: boolean;
    steps?: number;
    guidanceScale?: number;
  } = {},
) {
  let asked: SdxlGenerateParams | null = null;
  const engines = {
    status: () => ({ loaded }),
    call: (_kind: string, _method: string, params: SdxlGenerateParams): Promise<SdxlGenerateResult> => {
      asked = params;
      const kept = used ?? params.weights.length;
      return Promise.resolve({
        files: [],
        timings: {},
        tokenCount: 12,
        truncated: false,
        weightsUsed: params.weights.slice(0, kept),
        weightsDropped: params.weights
          .slice(kept)
          .map((weight) => ({ ...weight, reason: 'overruns the window' })),
      });
    },
  } as unknown as Engines;
  const made = planSdxlJob({ ...base, ...job }, { engines, negativePrompts, version: '1.2.3', ...options });
  const outcome = await made.generate({
    outputDir: '/out',
    prompt: job.prompt ?? base.prompt,
    references: new Map([['reference', '/in/reference.png']]),
    attempt: 1,
    signal: new AbortController().signal,
    onEvent: () => {},
  });
  return {
    plan: made,
    asked: asked as unknown as SdxlGenerateParams,
    metadata: { ...made.metadata, ...outcome.metadata } as Record<string, unknown>,
  };
}

t.test("a distilled model's steps and guidance stand in for the job type's", async (t) => {
  const {
    asked,
    metadata,
    plan: made,
  } = await plan({ type: 'sdxl_image_high' }, { steps: 4, guidanceScale: 1 });
  t.match(asked, { steps: 4, guidanceScale: 1 });
  t.match(metadata, { steps: 4, guidance_scale: 1 });
  t.match(made.estimateKey, / 4 1 text$/, 'and are what times are measured for');
});

t.test('defaults come from the catalogue, the model folder and the job id', async (t) => {
  const loaded = {
    device: 'cpu',
    deviceNotes: [],
    loadSeconds: 1,
    model: { name: 'pocket', features: [], defaultWidth: 128, defaultHeight: 96 },
  } satisfies LoadResult;
  const { asked, metadata, plan: made } = await plan({}, { loaded });
  t.match(asked, {
    steps: 15,
    guidanceScale: 6,
    width: 128,
    height: 96,
    numImages: 1,
    parseWeights: true,
    weights: [],
    scheduler: 'dpmpp_2m_karras',
  });
  t.equal(asked.seed, (await plan({})).asked.seed, 'the same job draws the same picture');
  t.not(asked.seed, (await plan({ id: '7b0b3f0e-8d0a-4a53-9d9c-0d8f1f3f9a55' })).asked.seed);
  t.match(metadata, {
    model: 'pocket',
    device: 'cpu',
    reference_mode: 'none',
    negative_prompt_source: 'automatic',
  });
  t.same(made.references, []);
  t.match(
    asked.parametersText,
    /a red circle\nNegative prompt: .*\nSteps: 15, .*Seed: \{seed\}, .*Model: pocket, Version: ourvidz 1\.2\.3/,
  );
  t.match((await plan({})).asked, { width: 1024, height: 1024 });
  t.equal(
    (await plan({ prompt: 'a Seed: {seed} in the prompt' })).asked.parametersText.split('Seed: {seed}')
      .length,
    2,
    "the engine's mark is there once",
  );
});

t.test('high quality, sizes, seeds and numbers of the job', async (t) => {
  const { asked, metadata } = await plan({
    type: 'sdxl_image_high',
    config: { num_images: 3, seed: 7, width: 64, height: 72 },
  });
  t.match(asked, { steps: 25, guidanceScale: 7.5, width: 64, height: 72, numImages: 3, seed: 7 });
  t.match(metadata, { seed: 7, seeds: [7, 8, 9], num_images: 3 });
});

t.test('the four outcomes of compel_weights', async (t) => {
  t.match((await plan({ compel_enabled: true, compel_weights: '(red:1.3), (circle:9)' })).metadata, {
    compel_enabled: true,
    compel_success: true,
    enhancement_strategy: 'compel',
    final_prompt_type: 'conditioning_tensor',
    compel_weights: '(red:1.3), (circle:9)',
    compel_weights_used: [
      { text: 'red', weight: 1.3 },
      { text: 'circle', weight: 2 },
    ],
    compel_weights_dropped: [],
    compel_weights_normalised: [{ from: 9, to: 2 }],
  });
  t.match((await plan({ compel_enabled: true, compel_weights: '(invalid:weights)' })).metadata, {
    compel_success: false,
    enhancement_strategy: 'fallback',
    final_prompt_type: 'string',
  });
  t.match((await plan({ compel_enabled: true })).metadata, {
    compel_enabled: true,
    compel_success: false,
    enhancement_strategy: 'none',
    final_prompt_type: 'string',
    compel_weights: null,
  });
  const off = await plan({ compel_enabled: false, compel_weights: '(red:1.3)' });
  t.match(off.metadata, {
    compel_enabled: false,
    compel_weights: null,
    compel_success: false,
    enhancement_strategy: 'none',
  });
  t.match(off.asked, { weights: [], parseWeights: false });
});

t.test('COMPEL=off draws every prompt literally', async (t) => {
  const weights = { compel_enabled: true, compel_weights: '(red:1.3)' };
  const { metadata, asked } = await plan(weights, { compel: false });
  t.match(metadata, {
    compel_enabled: false,
    compel_weights: null,
    compel_success: false,
    enhancement_strategy: 'none',
    final_prompt_type: 'string',
    compel_error: /COMPEL=off/,
  });
  t.match(asked, { parseWeights: false, weights: [] });
  t.notOk('compel_error' in (await plan({}, { compel: false })).metadata, 'nothing was asked for');
});

t.test('weights that overrun the window are reported; with none left it is a fallback', async (t) => {
  const weights = '(a:1.2), (b:1.3)';
  t.match((await plan({ compel_enabled: true, compel_weights: weights }, { used: 1 })).metadata, {
    enhancement_strategy: 'compel',
    compel_weights_dropped: [{ text: 'b', reason: /window/ }],
  });
  t.match((await plan({ compel_enabled: true, compel_weights: weights }, { used: 0 })).metadata, {
    enhancement_strategy: 'fallback',
    compel_success: false,
    final_prompt_type: 'string',
    compel_error: 'overruns the window',
  });
});

t.test("a job's own negative prompt wins, the empty one too", async (t) => {
  t.match(await plan({ config: { negative_prompt: 'blue' } }), {
    asked: { negativePrompt: 'blue' },
    metadata: { negative_prompt_source: 'job' },
  });
  t.equal((await plan({ config: { negative_prompt: '' } })).asked.negativePrompt, '');
  t.match(await plan({ prompt: 'two cats' }), { metadata: { scene: 'several' } });
});

t.test('a reference becomes a planned fetch and a parameter of the engine', async (t) => {
  const {
    plan: made,
    asked,
    metadata,
  } = await plan({
    metadata: {
      reference_image_url: 'https://x.test/a.png',
      reference_type: 'composition',
      reference_strength: 0.6,
    },
  });
  t.same(made.references, [
    { role: 'reference', url: 'https://x.test/a.png', field: 'metadata.reference_image_url' },
  ]);
  t.same(asked.reference, { path: '/in/reference.png', type: 'composition', strength: 0.6 });
  t.match(metadata, { reference_mode: 'composition', reference_strength: 0.6 });
  t.match((await plan({ metadata: { reference_image_url: 'https://x.test/a.png' } })).asked.reference, {
    type: 'style',
    strength: 0.85,
  });
});
