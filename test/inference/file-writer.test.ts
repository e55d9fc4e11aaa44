import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import t from 'tap';
import { fileWriter } from '../../src/inference/diffusion/file-writer.js';
import type { Picture } from '../../src/inference/diffusion/pictures.js';
import { requireVideoTools } from '../../src/inference/diffusion/video-file.js';
import { findVideoTools } from '../../src/lib/video-tools.js';
import { requireCommand } from '../helpers/requirements.js';
import { blockUntil, temporaryFolder } from './wan/support.js';

const skip = requireCommand('ffmpeg') || requireCommand('ffprobe');
const [width, height] = [64, 48];
const picture = (shade: number): Picture => ({
  data: new Uint8Array(width * height * 3).fill(shade),
  width,
  height,
});
const requestFor = (outputDir: string) => ({
  outputDir,
  format: 'png' as const,
  parametersText: 'Seed: {seed}',
});
const clipOptions = (signal: AbortSignal) => ({
  width,
  height,
  framesPerSecond: 16,
  crf: 20,
  parameters: '',
  seed: 5,
  signal,
});

t.test('a picture and a preview are finished while the loop that asked is blocked', async (t) => {
  const outputDir = await temporaryFolder(t);
  const preview = path.join(outputDir, 'preview-1.webp');
  const given = picture(7);
  const image = fileWriter.image(requestFor(outputDir), '0', given, 5);
  const previewed = fileWriter.preview(preview, picture(9), width, height);
  t.ok(
    blockUntil(() => existsSync(path.join(outputDir, '0.png')) && existsSync(preview)),
    'both are there',
  );
  t.equal(given.data.length, 0, 'its pixels were given away, not copied');
  await previewed;
  const made = await image;
  t.match(made, { contentType: 'image/png', width, height, seed: 5, bytes: readFileSync(made.path).length });
  t.same([...(await sharp(made.path).raw().toBuffer()).subarray(0, 3)], [7, 7, 7]);
});

t.test('a clip and its still are finished while the loop that asked is blocked', { skip }, async (t) => {
  const outputDir = await temporaryFolder(t);
  const file = path.join(outputDir, '0.mp4');
  const clip = await fileWriter.openVideo(
    requireVideoTools(await findVideoTools()),
    file,
    clipOptions(new AbortController().signal),
  );
  for (let frame = 0; frame < 17; frame += 1) await clip.write(picture(100 + frame));
  const encoded: number[] = [];
  const files = clip.finish({ request: requestFor(outputDir), name: 'poster', seed: 5 }, (frames) => {
    encoded.push(frames);
  });
  t.ok(
    blockUntil(() => existsSync(file) && existsSync(path.join(outputDir, 'poster.png'))),
    'both are there',
  );
  t.match(await files, [
    { path: file, frames: 17, seed: 5 },
    { path: path.join(outputDir, 'poster.png'), seed: 5 },
  ]);
  t.equal(encoded.at(-1), 17, 'progress comes when the loop is free');
});

t.test('what fails there is told here by its own name', { skip }, async (t) => {
  const outputDir = await temporaryFolder(t);
  await t.rejects(fileWriter.image(requestFor('/not/there'), '0', picture(1), 1), { code: 'engine_failed' });
  const stop = new AbortController();
  const tools = requireVideoTools(await findVideoTools());
  const clip = await fileWriter.openVideo(tools, path.join(outputDir, '0.mp4'), clipOptions(stop.signal));
  await clip.write(picture(1));
  stop.abort();
  await t.rejects(
    clip.finish({ request: requestFor(outputDir), name: 'poster', seed: 5 }, () => {}),
    { code: 'cancelled' },
  );
  await clip.abandon();
  t.same(
    (await readdir(outputDir)).filter((name) => name.includes('mp4')),
    [],
    'nothing of the clip is left',
  );
});
