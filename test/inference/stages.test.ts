import path from 'node:path';
import sharp from 'sharp';
import t from 'tap';
import {
  allFinite,
  floatToHalf,
  floatsToHalves,
  halfToFloat,
  halvesToFloats,
} from '../../src/inference/diffusion/floats.js';
import { followStages } from '../../src/inference/diffusion/stages.js';
import { recordingContext, temporaryFolder } from './wan/support.js';

t.test('a preview keeps no step waiting, and is at most 512 pixels a side', async (t) => {
  const outputDir = await temporaryFolder(t);
  const context = recordingContext();
  const stages = followStages(context);
  let rendered = 0;
  const look = {
    render: () => {
      rendered += 1;
      return { data: new Uint8Array(128 * 64 * 3).fill(rendered), width: 128, height: 64 };
    },
  };
  const params = { outputDir, previewEverySteps: 5, width: 1024, height: 512 };
  const told = () => context.events.flatMap((event) => (event.kind === 'preview' ? [event.step] : []));
  for (const step of [4, 5, 10, 25])
    stages.preview(params, { step, steps: 25 }, look, () => new Float32Array());
  t.equal(rendered, 1, 'step 10 comes while the picture of step 5 is written; 4 is not due, 25 is the last');
  t.same(told(), [], 'and nothing was waited for');
  await stages.previewWritten();
  t.same(told(), [5]);
  t.match(await sharp(path.join(outputDir, 'preview-5-0.webp')).metadata(), { width: 512, height: 256 });
  stages.preview(params, { step: 15, steps: 25 }, look, () => new Float32Array());
  await stages.previewWritten();
  t.same(told(), [5, 15], 'the next one due is drawn again');
});

t.test('each of the pictures that are drawn together has its preview', async (t) => {
  const outputDir = await temporaryFolder(t);
  const context = recordingContext();
  const stages = followStages(context);
  const rendered: Float32Array[] = [];
  const look = {
    render(latents: Float32Array) {
      rendered.push(latents);
      return { data: new Uint8Array(64 * 64 * 3), width: 64, height: 64 };
    },
  };
  const params = { outputDir, previewEverySteps: 1, width: 64, height: 64 };
  const shown = { step: 1, steps: 5, reported: 17, first: 3, drawn: 2, images: 6 };
  stages.preview(params, shown, look, (index) => Float32Array.of(index));
  t.same(rendered, [Float32Array.of(0), Float32Array.of(1)], 'before the latents go on changing');
  await stages.previewWritten();
  const told = context.events.flatMap((event) => (event.kind === 'preview' ? [event] : []));
  t.match(told, [
    { image: 3, images: 6, step: 17 },
    { image: 4, images: 6, step: 17 },
  ]);
  t.not(told[0]?.path, told[1]?.path);
});

t.test('a preview that cannot be written costs the job nothing', async (t) => {
  const context = recordingContext();
  const stages = followStages(context);
  const look = { render: () => ({ data: new Uint8Array(12), width: 2, height: 2 }) };
  const params = { outputDir: '/not/there', previewEverySteps: 1, width: 16, height: 16 };
  stages.preview(params, { step: 1, steps: 2 }, look, () => new Float32Array());
  await stages.previewWritten();
  t.same(context.events, []);
});

t.test('halves are converted natively as by hand', (t) => {
  const all = Uint16Array.from({ length: 65_536 }, (_, half) => half);
  const floats = halvesToFloats(all);
  t.ok(all.every((half) => Object.is(floats[half], Math.fround(halfToFloat(half)))));
  const values = Float32Array.from({ length: 20_000 }, (_, i) => Math.sin(i) * 10 ** ((i % 16) - 9));
  const halves = floatsToHalves(values);
  t.same(halves, Uint16Array.from(values, floatToHalf));
  t.same(
    floatsToHalves(Float32Array.of(65_520, -1e9, 0, -0, 1e-9)),
    Uint16Array.of(0x7c00, 0xfc00, 0, 0x8000, 0),
  );
  t.end();
});

t.test('what is not finite is seen', (t) => {
  for (const value of [NaN, Infinity, -Infinity]) t.notOk(allFinite(Float32Array.of(1, value, 2)));
  t.ok(allFinite(Float32Array.of(0, -0, 3.4e38, 1e-45)));
  t.end();
});
