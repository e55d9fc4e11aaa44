import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { openTiny, pipelineOf, recordingContext, temporaryFolder, wanParams } from './support.js';
import { readPadded, readPicture, toPlanes } from '../../../src/inference/diffusion/pictures.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { wanReferenceMode, type WanReferences } from '../../../src/inference/generation.js';
import { denoise } from '../../../src/inference/wan/denoise.js';
import { generateClip } from '../../../src/inference/wan/generate.js';
import { latentShape, type LatentShape, takeFrame } from '../../../src/inference/wan/latents.js';
import type { WanModel } from '../../../src/inference/wan/model.js';
import {
  encodeReferences,
  holdOf,
  type KnownLatents,
  pictureStartLevel,
} from '../../../src/inference/wan/references.js';
import { encodePrompt } from '../../../src/inference/wan/text.js';
import { decodeClip, encodeFirstFrame, encodeLastFrame } from '../../../src/inference/wan/vae.js';
import { largestDifference } from '../../../tools/parity/measure.js';

const side = 64;

/** A picture of two halves, written as PNG. */
async function drawPicture(
  t: Test,
  name: string,
  [left, right]: [string, string],
  width = side,
  height = side,
): Promise<string> {
  const file = path.join(await temporaryFolder(t), `${name}.png`);
  const half = await sharp({
    create: { width: Math.round(width / 2), height, channels: 3, background: right },
  })
    .png()
    .toBuffer();
  await sharp({ create: { width, height, channels: 3, background: left } })
    .composite([{ input: half, gravity: 'east' }])
    .png()
    .toFile(file);
  return file;
}

async function run(
  model: WanModel,
  shape: LatentShape,
  known: KnownLatents | null,
  onInput?: (feeds: Float32Array) => void,
): Promise<Float32Array> {
  const spied: WanModel = {
    ...model,
    transformer: {
      ...model.transformer,
      run: (feeds, outputs) => {
        onInput?.(feeds['hidden_states']?.data as Float32Array);
        return model.transformer.run(feeds, outputs);
      },
    },
  };
  const { latents } = await denoise(
    spied,
    createGenerator(5).randn(shape.channels * shape.frames * shape.height * shape.width),
    shape,
    {
      positive: await encodePrompt(model, 'a red circle'),
      negative: await encodePrompt(model, ''),
      guidanceScale: 1,
      scheduler: 'unipc',
      steps: 6,
      shift: 5,
      known,
      signal: new AbortController().signal,
      onStep() {},
    },
  );
  return latents;
}

t.test('the five modes; a start or an end beats a single reference', async (t) => {
  const modes: Array<[WanReferences, string]> = [
    [{}, 'none'],
    [{ reference: 'r' }, 'single'],
    [{ start: 's' }, 'start'],
    [{ end: 'e' }, 'end'],
    [{ start: 's', end: 'e' }, 'both'],
    [{ reference: 'r', start: 's' }, 'start'],
    [{ reference: 'r', end: 'e' }, 'end'],
    [{ reference: 'r', start: 's', end: 'e' }, 'both'],
  ];
  for (const [references, mode] of modes) t.equal(wanReferenceMode(references), mode);
});

t.test('pictures are cropped or padded, never stretched', async (t) => {
  // left two fifths red, of a picture 160 wide and 64 high
  const file = await drawPicture(t, 'wide', ['#ff0000', '#0000ff'], 160, side);
  const cropped = await readPicture(file, side, side);
  const at = ({ data, width }: { data: Uint8Array; width: number }, x: number, y: number) => [
    ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
  ];
  t.same(at(cropped, 4, 32), [255, 0, 0], 'centre crop: the left half is the red part beside the middle');
  t.same(at(cropped, 60, 32), [0, 0, 255]);
  const padded = await readPadded(file, side, side);
  t.same(at(padded, 32, 2), [255, 255, 255], 'padding: white above');
  t.same(at(padded, 2, 32), [255, 0, 0]);
  t.same(at(padded, 61, 32), [0, 0, 255]);
});

t.test(
  'start, end and both: the given latents come out, and the first frame is the reference as the VAE sees it',
  async (t) => {
    const model = await openTiny(t);
    const shape = latentShape(model, { width: side, height: side, frames: 13 });
    const start = await drawPicture(t, 'start', ['#c02020', '#2020c0']);
    const end = await drawPicture(t, 'end', ['#20c020', '#f0f0f0']);
    const first = await encodeFirstFrame(model, await readPicture(start, side, side));
    const last = await encodeLastFrame(model, await readPicture(end, side, side));
    const free = await run(model, shape, null);
    for (const [references, held] of [
      [{ start }, [0]],
      [{ end }, [3]],
      [{ start, end }, [0, 3]],
      [{ reference: start }, [0]],
    ] as const) {
      const known = await encodeReferences(model, references, shape, 1);
      const latents = await run(model, shape, known);
      const name = wanReferenceMode(references);
      for (const frame of [0, 1, 2, 3]) {
        const values = takeFrame(latents, shape, frame);
        if (held.includes(frame as never))
          t.ok(
            largestDifference(values, frame === 0 ? first : last) < 1e-5,
            `${name}: latent frame ${frame} is the reference's`,
          );
        else
          t.ok(
            largestDifference(values, takeFrame(free, shape, frame)) > 1e-3,
            `${name}: latent frame ${frame} takes notice`,
          );
      }
      if (held[0] !== 0) continue;
      const decode = async (values: Float32Array, frames: number) => {
        let picture: Float32Array = new Float32Array();
        await decodeClip(model, values, { ...shape, frames }, async (chunk, frame) => {
          if (frame === 0) picture = chunk.slice();
        });
        return picture;
      };
      t.ok(
        largestDifference(await decode(latents, 4), await decode(first, 1)) < 1e-4,
        `${name}: the first frame is the reference through the VAE`,
      );
    }
  },
);

t.test('an end is encoded as the end of a still clip, not as a first frame', async (t) => {
  const model = await openTiny(t);
  const picture = await readPicture(await drawPicture(t, 'end', ['#20c020', '#f0f0f0']), side, side);
  const [first, last] = [await encodeFirstFrame(model, picture), await encodeLastFrame(model, picture)];
  t.equal(first.length, last.length);
  t.ok(largestDifference(first, last) > 0.01);
});

t.test('strength: how long and how firmly a frame is held', async (t) => {
  t.same(holdOf(null), { firmness: 1, release: 0 });
  t.same(holdOf(1), { firmness: 1, release: 0 });
  t.same(holdOf(0.5), { firmness: 1, release: 0.5 });
  t.ok(largestDifference([holdOf(0.1).firmness, holdOf(0.1).release], [0.6, 0.9]) < 1e-9);
  const model = await openTiny(t);
  const shape = latentShape(model, { width: side, height: side, frames: 9 });
  const start = await drawPicture(t, 'start', ['#c02020', '#2020c0']);
  const first = await encodeFirstFrame(model, await readPicture(start, side, side));
  const distances: number[] = [];
  for (const strength of [1, 0.85, 0.5, 0.1]) {
    const latents = await run(model, shape, await encodeReferences(model, { start }, shape, strength));
    distances.push(
      Math.sqrt(
        takeFrame(latents, shape, 0).reduce((sum, value, i) => sum + (value - (first[i] as number)) ** 2, 0) /
          first.length,
      ),
    );
  }
  t.ok((distances[0] as number) < 1e-5, 'full strength holds to the end');
  t.same(
    [...distances].sort((a, b) => a - b),
    distances,
    `the weaker, the further away: ${distances.join(' ')}`,
  );
  t.ok((distances[3] as number) > (distances[0] as number) + 0.05);
});

t.test('a model trained with clean latents is shown them clean while they are held', async (t) => {
  const tiny = await openTiny(t);
  const shape = latentShape(tiny, { width: side, height: side, frames: 5 });
  const start = await drawPicture(t, 'start', ['#c02020', '#2020c0']);
  const first = await encodeFirstFrame(tiny, await readPicture(start, side, side));
  for (const cleanKnownLatents of [true, false]) {
    const model = { ...tiny, cleanKnownLatents };
    const shown: number[] = [];
    const known = await encodeReferences(model, { start }, shape, 1);
    t.equal(known?.clean, cleanKnownLatents);
    const latents = await run(model, shape, known, (input) =>
      shown.push(largestDifference(takeFrame(input, shape, 0), first)),
    );
    if (cleanKnownLatents) t.ok(Math.max(...shown) < 1e-6, 'clean at every step');
    else
      t.ok(
        (shown[0] as number) > 1 && (shown.at(-1) as number) < (shown[0] as number),
        `noised, less and less: ${shown.map((value) => value.toFixed(2)).join(' ')}`,
      );
    t.ok(largestDifference(takeFrame(latents, shape, 0), first) < 1e-5, 'and ends on the reference');
  }
});

t.test('in a picture a reference begins an image-to-image run: the stronger, the closer', async (t) => {
  const model = await openTiny(t);
  const shape = latentShape(model, { width: side, height: side, frames: 1 });
  const reference = await drawPicture(t, 'reference', ['#c02020', '#2020c0']);
  const first = await encodeFirstFrame(model, await readPicture(reference, side, side));
  const distances: number[] = [];
  const steps: number[] = [];
  for (const strength of [1, 0.85, 0.1]) {
    let calls = 0;
    const latents = await run(
      model,
      shape,
      await encodeReferences(model, { reference }, shape, strength),
      () => {
        calls += 1;
      },
    );
    steps.push(calls);
    distances.push(
      Math.sqrt(
        latents.reduce((sum, value, i) => sum + (value - (first[i] as number)) ** 2, 0) / first.length,
      ),
    );
  }
  t.same(
    [...steps].sort((a, b) => a - b),
    steps,
    `the stronger, the fewer steps: ${steps.join(' ')} of 6`,
  );
  t.ok((steps[0] as number) >= 1 && (steps[2] as number) > (steps[0] as number));
  t.ok((distances[0] as number) < (distances[2] as number), `distances ${distances.join(' ')}`);
  t.ok((distances[0] as number) > 0.01, 'but it is not the reference itself');
  t.ok(Math.abs(pictureStartLevel(1) - 0.45) < 1e-9);
});

t.test(
  'the result says which mode and method it was, and the explanation how a frame was held',
  async (t) => {
    const pipeline = await pipelineOf(await openTiny(t));
    const start = await drawPicture(t, 'start', ['#c02020', '#2020c0'], 200, 100);
    const context = recordingContext();
    const result = await generateClip(
      { ...pipeline },
      wanParams(await temporaryFolder(t), {
        output: 'image',
        frames: 1,
        references: { start },
        referenceStrength: 0.5,
        explain: true,
      }),
      context,
    );
    t.match(result, {
      referenceMode: 'start',
      referenceMethod: 'latent_overwrite',
      explain: { reference: { latent_frames: [0], released_below_sigma: 0.7 } },
    });
    t.ok(context.events.some((event) => event.kind === 'progress' && event.stage === 'reference'));
    const blind: WanModel = { ...pipeline.model, vaeEncoder: null };
    await t.rejects(
      generateClip(
        { ...pipeline, model: blind },
        wanParams(await temporaryFolder(t), { references: { start } }),
        recordingContext(),
      ),
      { code: 'invalid_parameters', field: 'config.image' },
    );
    t.equal(toPlanes(await readPicture(start, side, side)).length, 3 * side * side);
  },
);
