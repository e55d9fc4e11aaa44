import path from 'node:path';
import t from 'tap';
import type { LoadResult } from '../../src/inference/engine-protocol.js';
import type { WanGenerateParams, WanGenerateResult } from '../../src/inference/generation.js';
import { projectRoot } from '../../src/lib/project.js';
import type { Engines } from '../../src/services/engines/engines.js';
import { wanFrames } from '../../src/services/catalogue.js';
import { planWanJob, type WanPlanOptions } from '../../src/services/jobs/wan-plan.js';
import { resolveWanReferences, wanGuidance } from '../../src/services/jobs/wan-references.js';
import type { ValidJob } from '../../src/services/jobs/payload.js';
import { readWanSettings } from '../../src/services/models/model-folders.js';
import { readWanNegative } from '../../src/services/models/negative-prompts.js';

const base: ValidJob = {
  id: '6b0b3f0e-8d0a-4a53-9d9c-0d8f1f3f9a55',
  type: 'video_fast',
  prompt: 'a red circle moves left',
  user_id: '1e2feb89-414c-443c-9027-c4d1c386bbc4',
};
const url = (name: string) => `https://x.test/${name}.png`;
const negativePrompt = 'blurred';

/** Records what the engine is asked; answers as a real one would. */
async function plan(
  job: Partial<ValidJob> = {},
  { loaded = null, options = {} }: { loaded?: LoadResult | null; options?: Partial<WanPlanOptions> } = {},
) {
  let asked: WanGenerateParams | null = null;
  const engines = {
    status: () => ({ loaded }),
    call: (_kind: string, _method: string, params: WanGenerateParams): Promise<WanGenerateResult> => {
      asked = params;
      const file = {
        path: `/out/0.${params.output === 'video' ? 'mp4' : 'png'}`,
        contentType: '',
        bytes: 1,
        sha256: '',
        width: params.width,
        height: params.height,
        seed: params.seed,
      };
      const { reference, start, end } = params.references;
      return Promise.resolve({
        files:
          params.output === 'video'
            ? [
                { ...file, frames: params.frames, durationSeconds: params.frames / 16 },
                { ...file, path: '/out/poster.png' },
              ]
            : [file],
        timings: { denoise: 1 },
        frames: params.frames,
        tokenCount: 7,
        truncated: false,
        referenceMode:
          reference !== undefined
            ? 'single'
            : start !== undefined
              ? end !== undefined
                ? 'both'
                : 'start'
              : end !== undefined
                ? 'end'
                : 'none',
        ...((reference ?? start ?? end) === undefined ? {} : { referenceMethod: 'latent_overwrite' }),
      });
    },
  } as unknown as Engines;
  const made = planWanJob({ ...base, ...job }, { engines, negativePrompt, version: '1.2.3', ...options });
  const fetched = new Map(made.references.map(({ role }) => [role, `/in/${role}.png`]));
  const outcome = await made.generate({
    outputDir: '/out',
    prompt: job.prompt ?? base.prompt,
    references: fetched,
    attempt: 1,
    signal: new AbortController().signal,
    onEvent: () => {},
  });
  return {
    plan: made,
    outcome,
    asked: asked as unknown as WanGenerateParams,
    metadata: { ...made.metadata, ...outcome.metadata } as Record<string, unknown>,
  };
}

t.test('which pictures a job goes by', (t) => {
  const [config, metadata] = [
    { image: url('ci'), first_frame: url('cf'), last_frame: url('cl') },
    { reference_image_url: url('mi'), start_reference_url: url('mf'), end_reference_url: url('ml') },
  ];
  const cases: Array<
    [what: string, job: Pick<ValidJob, 'config' | 'metadata'>, mode: string, urls: string[]]
  > = [
    ['nothing', {}, 'none', []],
    ['nulls', { config: { image: null, first_frame: null }, metadata: null }, 'none', []],
    ['single of config', { config: { image: config.image } }, 'single', ['reference ci']],
    [
      'single of metadata',
      { metadata: { reference_image_url: metadata.reference_image_url } },
      'single',
      ['reference mi'],
    ],
    [
      'config wins over metadata: single',
      { config: { image: config.image }, metadata: { reference_image_url: metadata.reference_image_url } },
      'single',
      ['reference ci'],
    ],
    [
      'a null in config lets metadata speak',
      { config: { image: null }, metadata: { reference_image_url: metadata.reference_image_url } },
      'single',
      ['reference mi'],
    ],
    ['start of config', { config: { first_frame: config.first_frame } }, 'start', ['start cf']],
    [
      'start of metadata',
      { metadata: { start_reference_url: metadata.start_reference_url } },
      'start',
      ['start mf'],
    ],
    ['end of config', { config: { last_frame: config.last_frame } }, 'end', ['end cl']],
    ['end of metadata', { metadata: { end_reference_url: metadata.end_reference_url } }, 'end', ['end ml']],
    [
      'both, one of each',
      {
        config: { last_frame: config.last_frame },
        metadata: { start_reference_url: metadata.start_reference_url },
      },
      'both',
      ['start mf', 'end cl'],
    ],
    [
      'config wins over metadata: ends',
      { config: { first_frame: config.first_frame, last_frame: config.last_frame }, metadata },
      'both',
      ['start cf', 'end cl'],
    ],
    [
      'an end of metadata beats a single one of config',
      { config: { image: config.image }, metadata: { end_reference_url: metadata.end_reference_url } },
      'end',
      ['end ml'],
    ],
    ['everything', { config, metadata }, 'both', ['start cf', 'end cl']],
  ];
  for (const [what, job, mode, urls] of cases) {
    const found = resolveWanReferences(job);
    t.equal(found.mode, mode, what);
    t.same(
      found.planned.map((each) => `${each.role} ${each.url.slice('https://x.test/'.length, -'.png'.length)}`),
      urls,
      what,
    );
    for (const { field, url: address } of found.planned)
      t.ok(address.includes(field.startsWith('config.') ? '/c' : '/m'), `${field} is where it stands`);
  }
  t.end();
});

t.test('guidance by strength', (t) => {
  const cases: Array<
    [
      strength: number | null | undefined,
      reference: boolean,
      own: number,
      guidance: number,
      reported: number | null,
    ]
  > = [
    [0.1, true, 6.5, 5.4, 0.1],
    [0.5, true, 6.5, 7, 0.5],
    [0.9, true, 6.5, 8.6, 0.9],
    [1, true, 6.5, 9, 1],
    [undefined, true, 6.5, 8.4, 0.85],
    [null, true, 6.1, 6.1, null],
    [0.9, false, 6.5, 6.5, null],
    [undefined, false, 7.5, 7.5, null],
  ];
  for (const [strength, reference, own, guidance, reported] of cases) {
    const found = resolveWanReferences({
      config: reference ? { first_frame: url('a') } : {},
      metadata: { reference_strength: strength },
    });
    t.equal(wanGuidance(own, found), guidance, `strength ${strength}, reference ${reference}`);
    t.equal(found.strength, reported);
  }
  t.end();
});

t.test('frames: one for pictures, the largest 4n + 1 for videos', (t) => {
  for (const [asked, frames] of [
    [undefined, 81],
    [null, 81],
    [83, 81],
    [81, 81],
    [84, 81],
    [85, 85],
    [1, 1],
    [4, 1],
    [5, 5],
    [11, 9],
    [17, 17],
    [161, 161],
  ] as const)
    t.equal(wanFrames('video_fast', asked), frames, `frame_num ${asked}`);
  t.equal(wanFrames('image_high', 83), 1);
  t.end();
});

t.test('defaults come from the catalogue, the model folder, the operator and the job id', async (t) => {
  const loaded = {
    device: 'cpu',
    deviceNotes: [],
    loadSeconds: 1,
    model: { name: 'pocket', features: [], defaultWidth: 64, defaultHeight: 64 },
  } satisfies LoadResult;
  const { asked, metadata, plan: made, outcome } = await plan({}, { loaded });
  t.match(asked, {
    steps: 25,
    guidanceScale: 6.5,
    shift: 5,
    scheduler: 'unipc',
    width: 64,
    height: 64,
    frames: 81,
    output: 'video',
    framesPerSecond: 16,
    crf: 18,
    format: 'png',
    negativePrompt,
    referenceStrength: null,
  });
  t.same(asked.references, {});
  t.equal(asked.seed, (await plan()).asked.seed, 'the same job makes the same video');
  t.match(metadata, {
    seed: asked.seed,
    seeds: [asked.seed],
    num_images: 1,
    content_type: 'video',
    frames: 81,
    fps: 16,
    duration_seconds: 81 / 16,
    steps: 25,
    guidance_scale: 6.5,
    sample_shift: 5,
    scheduler: 'unipc',
    reference_mode: 'none',
    reference_strength: null,
    negative_prompt: negativePrompt,
    negative_prompt_source: 'automatic',
    model: 'pocket',
    device: 'cpu',
    token_count: 7,
    prompt_truncated: false,
  });
  t.notOk('frames_requested' in metadata);
  t.equal(outcome.files.length, 1);
  t.equal(outcome.poster?.path, '/out/poster.png');
  t.same([...made.stages], ['text', 'denoise', 'decode', 'encode', 'upload']);
  t.match(
    asked.parametersText,
    /^a red circle moves left\nNegative prompt: blurred\nSteps: 25, .*Frames: 81, Model: pocket, Version: ourvidz 1\.2\.3$/,
  );
  t.match((await plan()).asked, { width: 832, height: 480 });
  t.match(
    (
      await plan(
        {},
        { options: { scheduler: 'euler', shift: 3, crf: 23, format: 'webp', negativePrompt: null } },
      )
    ).asked,
    { scheduler: 'euler', shift: 3, crf: 23, format: 'webp', negativePrompt: null },
  );
});

t.test('the eight types', async (t) => {
  for (const [type, steps, guidance, output, enhanced] of [
    ['image_fast', 25, 6.5, 'image', false],
    ['image_high', 50, 7.5, 'image', false],
    ['video_fast', 25, 6.5, 'video', false],
    ['video_high', 50, 7.5, 'video', false],
    ['image7b_fast_enhanced', 25, 6.5, 'image', true],
    ['image7b_high_enhanced', 50, 7.5, 'image', true],
    ['video7b_fast_enhanced', 25, 6.5, 'video', true],
    ['video7b_high_enhanced', 50, 7.5, 'video', true],
  ] as const) {
    const { asked, plan: made, metadata, outcome } = await plan({ type });
    t.match(asked, { steps, guidanceScale: guidance, output, frames: output === 'image' ? 1 : 81 }, type);
    t.same(made.enhancement, enhanced ? { type: 'base' } : undefined, type);
    t.equal(made.stages.has('enhance'), enhanced);
    t.equal(outcome.poster !== undefined, output === 'video');
    t.equal('fps' in metadata, output === 'video');
  }
});

t.test("a job's own values", async (t) => {
  const { asked, metadata } = await plan({
    config: {
      seed: 7,
      frame_num: 83,
      size: '480*832',
      sample_steps: 12,
      sample_shift: 8,
      sample_guide_scale: 4,
      sample_solver: 'dpm++',
      explain: true,
    },
  });
  t.match(asked, {
    seed: 7,
    frames: 81,
    width: 480,
    height: 832,
    steps: 12,
    shift: 8,
    guidanceScale: 4,
    scheduler: 'dpmpp_2m',
    explain: true,
  });
  t.match(metadata, {
    frames: 81,
    frames_requested: 83,
    width: 480,
    height: 832,
    scheduler: 'dpmpp_2m',
    sample_shift: 8,
  });
  t.match((await plan({ config: { size: '64x96', sample_solver: 'euler' } })).asked, {
    width: 64,
    height: 96,
    scheduler: 'euler',
  });
  t.match(
    (await plan({ config: { sample_solver: 'unipc' } }, { options: { scheduler: 'unipc_diffusers' } })).asked,
    { scheduler: 'unipc' },
    'the job goes before the operator',
  );
  t.match(
    (
      await plan({
        config: { sample_guide_scale: null, sample_steps: null, sample_solver: null, size: null },
      })
    ).asked,
    { guidanceScale: 6.5, steps: 25, scheduler: 'unipc', width: 832 },
  );
  t.equal((await plan({ config: { sample_guide_scale: 0 } })).asked.guidanceScale, 0);
});

t.test('references become planned fetches and local paths of the engine', async (t) => {
  const {
    plan: made,
    asked,
    metadata,
  } = await plan({
    config: { first_frame: url('a') },
    metadata: { end_reference_url: url('b'), reference_strength: 0.5 },
  });
  t.same(made.references, [
    { role: 'start', url: url('a'), field: 'config.first_frame' },
    { role: 'end', url: url('b'), field: 'metadata.end_reference_url' },
  ]);
  t.same(asked.references, { start: '/in/start.png', end: '/in/end.png' });
  t.match(asked, { referenceStrength: 0.5, guidanceScale: 7 });
  t.match(metadata, {
    reference_mode: 'both',
    reference_strength: 0.5,
    reference_method: 'latent_overwrite',
    guidance_scale: 7,
  });
  t.ok(made.stages.has('references') && made.stages.has('reference'));
  const single = await plan({ type: 'image_fast', config: { image: url('c') } });
  t.same(single.asked.references, { reference: '/in/reference.png' });
  t.match(single.metadata, { reference_mode: 'single', reference_strength: 0.85, guidance_scale: 8.4 });
});

t.test('jobs that take different times have different keys', async (t) => {
  const keys = await Promise.all(
    (
      [
        {},
        { type: 'video_high' },
        { type: 'image_fast' },
        { type: 'video7b_fast_enhanced' },
        { config: { frame_num: 17 } },
        { config: { size: '64*64' } },
        { config: { sample_guide_scale: 1 } },
        { config: { image: url('a') } },
      ] as Array<Partial<ValidJob>>
    ).map(async (job) => (await plan(job)).plan.estimateKey),
  );
  t.equal(new Set(keys).size, keys.length);
  t.equal((await plan({ prompt: 'other', config: { seed: 3 } })).plan.estimateKey, keys[0]);
});

t.test('the conversation of an enhanced job', async (t) => {
  t.same(
    (
      await plan({
        type: 'image7b_fast_enhanced',
        metadata: { enhancement_type: 'instruct_chat', session_id: 's', conversation_context: 'c' },
      })
    ).plan.enhancement,
    { type: 'instruct_chat', sessionId: 's', context: 'c' },
  );
  t.same(
    (await plan({ type: 'image7b_fast_enhanced', metadata: { enhancement_type: null, session_id: '' } })).plan
      .enhancement,
    { type: 'base' },
  );
});

t.test('the stock negative prompt is a file; a model folder may say otherwise', async (t) => {
  const folder = path.join(projectRoot(), 'prompts/negative');
  const stock = await readWanNegative({ folder, enabled: true });
  t.match(stock, /^色调艳丽，过曝，静态，.*，倒着走$/);
  t.equal(stock?.split('，').length, 28);
  t.equal(await readWanNegative({ folder, enabled: false }), null);
  t.equal(await readWanNegative({ folder, enabled: true, autoNegative: false }), null);
  t.equal(await readWanNegative({ folder, enabled: true, autoNegative: 'blurry' }), 'blurry');
  const dir = t.testdir({
    own: { 'ourvidz.json': '{"autoNegative": "blurry", "scheduler": "euler", "shift": 3, "unknown": 1}' },
    odd: { 'ourvidz.json': '{"autoNegative": 3, "scheduler": "magic", "shift": -1}' },
    none: {},
    stock: { scheduler: { 'scheduler_config.json': '{"flow_shift": 3.0}' } },
    both: { 'ourvidz.json': '{"shift": 7}', scheduler: { 'scheduler_config.json': '{"flow_shift": 3.0}' } },
  });
  t.same(
    await readWanSettings(path.join(dir, 'stock')),
    {},
    "its publisher's scheduler does not move the 5.0",
  );
  t.same(await readWanSettings(path.join(dir, 'both')), { shift: 7 });
  t.same(await readWanSettings(path.join(dir, 'own')), {
    autoNegative: 'blurry',
    scheduler: 'euler',
    shift: 3,
  });
  t.same(await readWanSettings(path.join(dir, 'odd')), {});
  t.same(await readWanSettings(path.join(dir, 'none')), {});
});

t.test('weights in a prompt of WAN are noted: it reads the text as it is written', async (t) => {
  const prompt = 'a (red:1.4) circle++ at (2:3), <lora:x:1>';
  const { metadata } = await plan({ prompt });
  const notes = metadata['prompt_notes'] as Array<{ field: string; text: string; note: string }>;
  t.same(
    notes.map(({ text, note }) => `${text}: ${note.split(',')[0]}`),
    [
      '<lora:x:1>: is left out: nothing is loaded by a prompt here',
      'red: has a weight',
      'circle: has a weight',
    ],
  );
  t.same((await plan({ prompt: 'a frame (2:3) at (10:30)' })).metadata['prompt_notes'], []);
});
