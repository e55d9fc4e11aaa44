import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import sharp from 'sharp';
import t from 'tap';
import { openTiny, pipelineOf, recordingContext, temporaryFolder, wanParams } from './support.js';
import { requireCommand } from '../../helpers/requirements.js';
import { toPictures } from '../../../src/inference/diffusion/pictures.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import type { EngineEvent } from '../../../src/inference/engine-protocol.js';
import {
  type FlowSchedulerName,
  flowSchedulerNames,
  type WanGenerateParams,
} from '../../../src/inference/generation.js';
import { denoise } from '../../../src/inference/wan/denoise.js';
import { generateClip } from '../../../src/inference/wan/generate.js';
import { latentShape } from '../../../src/inference/wan/latents.js';
import { encodePrompt } from '../../../src/inference/wan/text.js';
import { decodeClip } from '../../../src/inference/wan/vae.js';
import { peakSignalToNoise } from '../../../tools/parity/measure.js';

const skip = requireCommand('ffmpeg') || requireCommand('ffprobe');
const stagesOf = (events: readonly EngineEvent[]) =>
  events.flatMap((event) =>
    event.kind === 'progress' ? [`${event.stage} ${event.step}/${event.steps}`] : [],
  );

t.test(
  "a clip: the frames of the file are the decoder's, and progress tells every step",
  { skip },
  async (t) => {
    const pipeline = await pipelineOf(await openTiny(t));
    const context = recordingContext();
    const outputDir = await temporaryFolder(t);
    const params = wanParams(outputDir, { crf: 1 });
    const result = await generateClip(pipeline, params, context);
    t.same((await readdir(outputDir)).sort(), ['0.mp4', 'poster.png']);
    const [video, poster] = result.files;
    t.match(video, {
      contentType: 'video/mp4',
      frames: 9,
      durationSeconds: 9 / 16,
      width: 64,
      height: 64,
      seed: 42,
    });
    t.match(poster, { contentType: 'image/png', width: 64, height: 64 });
    t.match(result, { frames: 9, truncated: false, referenceMode: 'none', referenceMethod: undefined });
    t.same(Object.keys(result.timings), ['text', 'reference', 'denoise', 'decode', 'encode']);
    const stages = stagesOf(context.events);
    t.same(
      stages.filter((stage) => !stage.startsWith('encode')),
      [
        'text 0/2',
        'text 1/2',
        'denoise 0/3',
        'denoise 1/3',
        'denoise 2/3',
        'denoise 3/3',
        'decode 0/3',
        'decode 1/3',
        'decode 2/3',
        'decode 3/3',
      ],
    );
    t.equal(stages.at(-1), 'encode 9/9');

    // the same clip by hand
    const { model } = pipeline;
    const shape = latentShape(model, params);
    const { latents } = await denoise(
      model,
      createGenerator(42).randn(shape.channels * shape.frames * 64),
      shape,
      {
        ...params,
        positive: await encodePrompt(model, params.prompt),
        negative: await encodePrompt(model, ''),
        known: null,
        signal: context.signal,
        onStep() {},
      },
    );
    const expected: number[] = [];
    await decodeClip(model, latents, shape, async (chunk) => {
      for (const { data } of toPictures(chunk, 64, 64)) expected.push(...data);
    });
    const { stdout } = await promisify(execFile)(
      'ffmpeg',
      [
        '-v',
        'error',
        '-i',
        video?.path ?? '',
        '-vf',
        'scale=in_color_matrix=bt709',
        '-f',
        'rawvideo',
        '-pix_fmt',
        'rgb24',
        '-',
      ],
      { encoding: 'buffer', maxBuffer: 1e8 },
    );
    const luma = (bytes: ArrayLike<number>) =>
      Array.from(
        { length: bytes.length / 3 },
        (_, i) =>
          (0.2126 * (bytes[3 * i] as number) +
            0.7152 * (bytes[3 * i + 1] as number) +
            0.0722 * (bytes[3 * i + 2] as number)) /
          255,
      );
    const decibels = peakSignalToNoise(luma(stdout), luma(expected));
    t.ok(decibels > 38, `brightness of the file's frames at ${decibels.toFixed(1)} dB to the decoder's`);
    t.same(
      [...(await sharp(poster?.path).raw().toBuffer())],
      expected.slice(0, 64 * 64 * 3),
      'the poster is the first frame, byte for byte',
    );
  },
);

t.test('1, 5, 17 and 81 frames', { skip }, async (t) => {
  const pipeline = await pipelineOf(await openTiny(t));
  for (const frames of [1, 5, 17, 81]) {
    const result = await generateClip(
      pipeline,
      wanParams(await temporaryFolder(t), { frames, steps: 1, width: 32, height: 32 }),
      recordingContext(),
    );
    t.match(result, { frames, files: [{ frames }, {}] });
  }
});

t.test(
  'a picture holds its parameters, in every format, and is the first frame of nothing else',
  async (t) => {
    const pipeline = await pipelineOf(await openTiny(t));
    for (const format of ['png', 'webp', 'jpeg'] as const) {
      const outputDir = await temporaryFolder(t);
      const {
        files: [file],
        frames,
      } = await generateClip(
        { ...pipeline, videoTools: null },
        wanParams(outputDir, { output: 'image', frames: 1, format }),
        recordingContext(),
      );
      t.equal(frames, 1);
      t.equal(file?.contentType, `image/${format}`);
      t.equal((await sharp(file?.path).metadata()).format, format);
      t.ok((await readFile(file?.path ?? '')).includes('Seed: 42'), `${format}: the seed stands in the file`);
      t.equal((await readdir(outputDir)).length, 1);
    }
  },
);

t.test(
  'the same seed makes the same picture, another seed, sampler, shift, guidance or prompt another',
  async (t) => {
    const pipeline = await pipelineOf(await openTiny(t));
    const draw = async (changes: Partial<WanGenerateParams> = {}) =>
      (
        await generateClip(
          pipeline,
          wanParams(await temporaryFolder(t), { output: 'image', frames: 1, steps: 4, ...changes }),
          recordingContext(),
        )
      ).files[0]?.sha256;
    const first = await draw();
    t.equal(await draw(), first, 'again');
    t.equal(await draw({ negativePrompt: '' }), first, 'no negative prompt is the empty one');
    const others: Array<Partial<WanGenerateParams>> = [
      { seed: 43 },
      { shift: 8 },
      { guidanceScale: 2 },
      { guidanceScale: 1 },
      { prompt: 'a blue square' },
      { negativePrompt: 'blurry' },
      { steps: 5 },
      ...flowSchedulerNames.slice(1).map((scheduler: FlowSchedulerName) => ({ scheduler })),
    ];
    for (const change of others) t.not(await draw(change), first, JSON.stringify(change));
  },
);

t.test('previews show the clip that is being made', async (t) => {
  const pipeline = await pipelineOf(await openTiny(t));
  const rendered: number[] = [];
  const preview = {
    render: (latents: Float32Array, width: number, height: number) => {
      rendered.push(latents.length);
      return { data: new Uint8Array(width * height * 3).fill(90), width, height };
    },
  };
  const context = recordingContext();
  const outputDir = await temporaryFolder(t);
  await generateClip(
    { ...pipeline, preview },
    wanParams(outputDir, { output: 'image', frames: 1, steps: 5, previewEverySteps: 2 }),
    context,
  );
  const previews = context.events.flatMap((event) => (event.kind === 'preview' ? [event] : []));
  // the second is left out where the first is still being written
  t.same(
    previews.map(({ step }) => step),
    [2, 4].slice(0, rendered.length),
  );
  t.ok(rendered.length > 0);
  t.ok(
    rendered.every((length) => length === 16 * 64),
    'one latent frame each',
  );
  t.match(await sharp(previews[0]?.path).metadata(), { format: 'webp', width: 64, height: 64 });
});

t.test('what the model cannot draw is refused with field and rule', async (t) => {
  const pipeline = await pipelineOf(await openTiny(t));
  const outputDir = await temporaryFolder(t);
  const refused: Array<[Partial<WanGenerateParams>, string, RegExp]> = [
    [{ frames: 83 }, 'config.frame_num', /4n \+ 1/],
    [{ frames: 0 }, 'config.frame_num', /4n \+ 1/],
    [{ frames: -4 }, 'config.frame_num', /4n \+ 1/],
    [{ width: 72 }, 'config.size', /multiple of 16/],
    [{ height: 0 }, 'config.size', /multiple of 16/],
    [{ steps: 0 }, 'config.sample_steps', /positive/],
    [{ shift: 0 }, 'config.sample_shift', /greater than 0/],
    [{ output: 'image' }, 'config.frame_num', /must be 1/],
  ];
  for (const [change, field, message] of refused)
    await t.rejects(
      generateClip(pipeline, wanParams(outputDir, change), recordingContext()),
      { code: 'invalid_parameters', field, message },
      JSON.stringify(change),
    );
  await t.rejects(
    generateClip({ ...pipeline, videoTools: null }, wanParams(outputDir), recordingContext()),
    { code: 'encoder_missing' },
    'a video without ffmpeg',
  );
  t.same(await readdir(outputDir), []);
});
