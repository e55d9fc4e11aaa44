/**
 * Program of the memory test: `node peak-memory.js FRAMES SIZE` decodes a clip into an MP4 and prints bytes
 * before and at the peak.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { requireVideoTools } from '../../../src/inference/diffusion/video-file.js';
import { findVideoTools } from '../../../src/lib/video-tools.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { openVideo } from '../../../src/inference/diffusion/video-file.js';
import { latentShape } from '../../../src/inference/wan/latents.js';
import { collectGarbage } from '../../../src/inference/diffusion/floats.js';
import { openWanModel } from '../../../src/inference/wan/model.js';
import { toPictures } from '../../../src/inference/diffusion/pictures.js';
import { decodeClip } from '../../../src/inference/wan/vae.js';
import { projectRoot } from '../../../src/lib/project.js';

const [frames, side] = process.argv.slice(2).map(Number) as [number, number];
const model = await openWanModel(path.join(projectRoot(), 'test/parity/models/wan-tiny'), {
  device: 'cpu',
  threads: 1,
});
const folder = await mkdtemp(path.join(tmpdir(), 'peak-memory-'));
const tools = requireVideoTools(await findVideoTools());
const shape = latentShape(model, { width: side, height: side, frames });
const latents = createGenerator(1).randn(shape.channels * shape.frames * shape.height * shape.width);
const status = async (field: string) =>
  Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(await readFile('/proc/self/status', 'utf8'))?.[1]) * 1024;
const before = await status('VmHWM');
const video = openVideo(tools, path.join(folder, '0.mp4'), {
  width: side,
  height: side,
  framesPerSecond: 16,
  crf: 30,
  parameters: '',
  seed: 1,
  signal: new AbortController().signal,
});
await decodeClip(model, latents, shape, async (chunk) => {
  for (const picture of toPictures(chunk, side, side)) await video.write(picture);
  collectGarbage();
});
const file = await video.finish(() => {});
process.stdout.write(JSON.stringify({ before, peak: await status('VmHWM'), frames: file.frames }));
await rm(folder, { recursive: true, force: true });
await model.release();
