import { readdir, readFile } from 'node:fs/promises';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { probeVideo, requireVideoTools } from '../../../src/inference/diffusion/video-file.js';
import { findVideoTools } from '../../../src/lib/video-tools.js';
import type { Picture } from '../../../src/inference/diffusion/pictures.js';
import { openVideo } from '../../../src/inference/diffusion/video-file.js';
import { requireCommand } from '../../helpers/requirements.js';
import { isAlive } from './processes.js';
import { temporaryFolder } from './support.js';

const skip = requireCommand('ffmpeg') || requireCommand('ffprobe');
const [width, height] = [64, 48];
const colours = [
  [200, 30, 40],
  [30, 180, 60],
  [40, 60, 210],
  [250, 250, 250],
  [5, 5, 5],
] as const;

function flat(colour: readonly [number, number, number]): Picture {
  return {
    data: Uint8Array.from({ length: width * height * 3 }, (_, i) => colour[i % 3] as number),
    width,
    height,
  };
}

async function openFor(t: Test, changes: { signal?: AbortSignal; width?: number; height?: number } = {}) {
  const folder = await temporaryFolder(t);
  const tools = requireVideoTools(await findVideoTools());
  const file = path.join(folder, '0.mp4');
  const video = openVideo(tools, file, {
    width,
    height,
    framesPerSecond: 16,
    crf: 10,
    parameters: 'a "quoted" = text; \\ Seed: 5',
    seed: 5,
    signal: new AbortController().signal,
    ...changes,
  });
  return { folder, tools, file, video };
}

t.test('frames arrive in order, in colour, at 16 a second, with the header in front', { skip }, async (t) => {
  const { folder, tools, file, video } = await openFor(t);
  for (let i = 0; i < 20; i += 1)
    await video.write(flat(colours[Math.floor(i / 4)] as readonly [number, number, number]));
  const seen: number[] = [];
  const made = await video.finish((frames) => seen.push(frames));
  t.match(made, {
    path: file,
    contentType: 'video/mp4',
    width,
    height,
    seed: 5,
    frames: 20,
    durationSeconds: 1.25,
  });
  t.same(await readdir(folder), ['0.mp4'], 'nothing else is left');
  t.match(await probeVideo(tools, file), {
    codec: 'h264',
    pixelFormat: 'yuv420p',
    width,
    height,
    frames: 20,
    durationSeconds: 1.25,
  });
  t.equal(seen.at(-1), 20, 'progress ends at the last frame');

  const { stdout } = await promisify(execFile)(
    tools.ffmpeg,
    [
      '-v',
      'error',
      '-i',
      file,
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
  for (let i = 0; i < 20; i += 1) {
    const middle = stdout.subarray((i * height + height / 2) * width * 3 + (width / 2) * 3).subarray(0, 3);
    const expected = colours[Math.floor(i / 4)] as readonly number[];
    t.ok(
      expected.every((value, c) => Math.abs(value - (middle[c] as number)) <= 6),
      `frame ${i}: ${[...middle].join()} for ${expected.join()}`,
    );
  }
  const bytes = await readFile(file);
  t.ok(bytes.indexOf('moov') > 0 && bytes.indexOf('moov') < bytes.indexOf('mdat'), 'moov stands before mdat');
  t.ok(bytes.includes('a "quoted" = text; \\ Seed: 5'), 'the parameters are in the file');
});

t.test('an encoder that does not take frames holds the writer back', { skip }, async (t) => {
  const { video } = await openFor(t);
  const pid = video.pid as number;
  await video.write(flat(colours[0]));
  process.kill(pid, 'SIGSTOP');
  let taken = 0;
  // 200 frames are 1.8 MB, far beyond what a pipe and a stream hold
  const writing = (async () => {
    for (let i = 0; i < 200; i += 1) {
      await video.write(flat(colours[i % 5] as readonly [number, number, number]));
      taken += 1;
    }
  })();
  // until no frame has been taken for half a second, however busy the machine is
  for (let before = -1, still = 0; still < 10; before = taken) {
    await sleep(50);
    still = taken === before ? still + 1 : 0;
  }
  t.ok(taken < 60, `${taken} frames were taken while it stood still`);
  process.kill(pid, 'SIGCONT');
  await writing;
  t.equal((await video.finish(() => {})).frames, 201, 'every frame is there in the end');
});

t.test('cancelled, even while the encoder hangs: no process, no file', { skip }, async (t) => {
  const controller = new AbortController();
  const { folder, video } = await openFor(t, { signal: controller.signal });
  for (let i = 0; i < 8; i += 1) await video.write(flat(colours[0]));
  process.kill(video.pid as number, 'SIGSTOP');
  const finishing = video.finish(() => {});
  setTimeout(() => {
    controller.abort();
  }, 50);
  await t.rejects(finishing, { code: 'cancelled' });
  t.notOk(isAlive(video.pid as number), 'ffmpeg is gone');
  t.same(await readdir(folder), []);
});

t.test('an encoder that fails says why, and leaves nothing', { skip }, async (t) => {
  // yuv420p needs even sides
  const { folder, video } = await openFor(t, { width: 63 });
  const picture = { data: new Uint8Array(63 * height * 3), width: 63, height };
  await t.rejects(
    (async () => {
      for (let i = 0; i < 500; i += 1) await video.write(picture);
      await video.finish(() => {});
    })(),
    { code: 'engine_failed', message: /ffmpeg failed after \d+ frames: .*not divisible by 2/s },
  );
  await video.abandon();
  t.same(await readdir(folder), []);
});

t.test('a file that is not what was asked for is refused', { skip }, async (t) => {
  const { folder, video } = await openFor(t);
  // half a frame of bytes too few: ffmpeg drops the rest and ends well
  await video.write(flat(colours[0]));
  await video.write({ data: new Uint8Array(100), width, height });
  await t.rejects(
    video.finish(() => {}),
    { code: 'engine_failed', message: /not what was asked for/ },
  );
  t.same(await readdir(folder), []);
});

t.test('without ffmpeg the cure is named', async (t) => {
  t.throws(() => requireVideoTools(null), { code: 'encoder_missing', message: /apt-get install ffmpeg/ });
});
