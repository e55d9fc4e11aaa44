import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { EngineFailure, type RequestContext } from '../../../src/inference/engine.js';
import type { SdxlGenerateParams } from '../../../src/inference/generation.js';
import { generateImages, type Pipeline } from '../../../src/inference/sdxl/generate.js';
import { openSdxlModel, type SdxlModel } from '../../../src/inference/sdxl/model.js';
import { createTextCache } from '../../../src/inference/sdxl/text-cache.js';
import { projectRoot } from '../../../src/lib/project.js';
import { blockUntil, temporaryFolder } from '../wan/support.js';

const side = 64;

async function openPipeline(
  t: Test,
  unet: (model: SdxlModel) => Partial<SdxlModel['unet']> = () => ({}),
): Promise<{ pipeline: Pipeline; calls: number[] }> {
  const model = await openSdxlModel(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), {
    device: 'cpu',
    threads: 1,
  });
  t.teardown(() => model.release());
  const calls: number[] = [];
  const inner = { ...model.unet, ...unet(model) };
  const counted: SdxlModel = {
    ...model,
    unet: {
      ...inner,
      run: (feeds, outputs) => {
        calls.push(feeds['sample']?.dims[0] ?? 0);
        return inner.run(feeds, outputs);
      },
    },
  };
  return {
    calls,
    pipeline: {
      model: counted,
      texts: createTextCache(counted),
      preview: null,
      batchSize: 6,
      rowLimit: { rows: Infinity },
    },
  };
}

async function draw(
  t: Test,
  pipeline: Pipeline,
  changes: Partial<SdxlGenerateParams>,
  computed: () => void = () => {},
): Promise<Buffer[]> {
  const outputDir = await temporaryFolder(t);
  const context: RequestContext = {
    id: '1',
    signal: new AbortController().signal,
    emit: () => {},
    compute: (work) => work().finally(computed),
  };
  const { files } = await generateImages(
    pipeline,
    {
      jobId: 'batch',
      outputDir,
      prompt: 'a red circle',
      negativePrompt: null,
      parseWeights: true,
      weights: [],
      steps: 3,
      guidanceScale: 6,
      scheduler: 'dpmpp_2m_karras',
      width: side,
      height: side,
      seed: 5,
      numImages: 1,
      format: 'png',
      previewEverySteps: 0,
      parametersText: '',
      explain: false,
      ...changes,
    },
    context,
  );
  return Promise.all(
    files.map(async (file) =>
      sharp(await readFile(file.path))
        .raw()
        .toBuffer(),
    ),
  );
}

/** Largest difference of two pictures, in levels of 255. */
const difference = (a: Buffer | undefined, b: Buffer | undefined) =>
  a === undefined || b === undefined
    ? Infinity
    : a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (b[i] as number))), 0);

void t.test(
  'one, three and six images take one UNet call a step, and are the images drawn alone',
  async (t) => {
    const { pipeline, calls } = await openPipeline(t);
    for (const scheduler of ['dpmpp_2m_karras', 'euler_ancestral', 'unipc'] as const) {
      const alone = await Promise.all([5, 6, 7].map((seed) => draw(t, pipeline, { scheduler, seed })));
      for (const numImages of [1, 3, 6]) {
        calls.length = 0;
        const together = await draw(t, pipeline, { scheduler, numImages });
        t.same(
          calls,
          [2 * numImages, 2 * numImages, 2 * numImages],
          `${scheduler}, ${numImages} images: rows of each call`,
        );
        for (const [i, picture] of together.slice(0, 3).entries())
          t.ok(difference(picture, alone[i]?.[0]) <= 1, `image ${i} of ${numImages}`);
      }
    }
  },
);

void t.test("a job's pictures are finished while the next job's graph call blocks the loop", async (t) => {
  const { pipeline } = await openPipeline(t);
  const outputDir = await temporaryFolder(t);
  const files = ['0.png', '1.png'].map((name) => path.join(outputDir, name));
  let there = false;
  const pictures = await draw(t, pipeline, { numImages: 2, outputDir }, () => {
    // here the device is free, and the next job's call may hold the loop for as long as it likes
    there = blockUntil(() => files.every((file) => existsSync(file)));
  });
  t.ok(there, 'the call goes on until they are there');
  t.equal(pictures.length, 2);
});

void t.test('a size between the multiples of the graph is the middle of the next larger one', async (t) => {
  const { pipeline } = await openPipeline(t);
  const { sizeMultiple } = pipeline.model;
  t.equal(sizeMultiple, 16, 'an eighth in the VAE, a half in the UNet');
  const [picture] = await draw(t, pipeline, { width: 56, height: 72 });
  const [larger] = await draw(t, pipeline, { width: 64, height: 80 });
  const middle = await sharp(larger, { raw: { width: 64, height: 80, channels: 3 } })
    .extract({ left: 4, top: 4, width: 56, height: 72 })
    .raw()
    .toBuffer();
  t.equal(difference(picture, middle), 0);
  await t.rejects(draw(t, pipeline, { width: 60 }), { code: 'invalid_parameters', field: 'config.width' });
});

void t.test(
  'a call that runs out of memory is made again with half the rows, and the size is remembered',
  async (t) => {
    const fits = 3;
    const { pipeline, calls } = await openPipeline(t, ({ unet }) => ({
      run: async (feeds, outputs) => {
        if ((feeds['sample']?.dims[0] ?? 0) > fits)
          throw new Error('Failed to allocate memory for requested buffer of size 1073741824');
        return unet.run(feeds, outputs);
      },
    }));
    const { pipeline: roomy } = await openPipeline(t);
    const together = await draw(t, pipeline, { numImages: 6, steps: 2 });
    t.same(calls, [12, 6, 3, 3, 3, 3, 3, 3, 3, 3], 'twelve rows, six, then three at a time');
    const expected = await draw(t, roomy, { numImages: 6, steps: 2 });
    for (const [i, picture] of together.entries()) t.ok(difference(picture, expected[i]) <= 1, `image ${i}`);
    calls.length = 0;
    await draw(t, pipeline, { numImages: 3, steps: 2 });
    t.same(calls, [3, 3, 3, 3], 'the next job does not try again what failed');
  },
);

void t.test("a single row that does not fit fails the job with the runtime's word for it", async (t) => {
  const { pipeline } = await openPipeline(t, () => ({
    run: () => Promise.reject(new EngineFailure('out_of_memory', 'no room')),
  }));
  await t.rejects(draw(t, pipeline, { numImages: 3 }), { code: 'out_of_memory' });
});
