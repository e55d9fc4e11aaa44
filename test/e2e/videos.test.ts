/** WAN jobs from the queue's string to the frames of the MP4, with each way of giving reference pictures. */
import t, { type Test } from 'tap';
import { createClient } from '../../client/index.js';
import type { ProgressView } from '../../src/cli/job-view.js';
import { drawClip } from '../../tools/pocket-check/clip-world.js';
import { judgeClip } from '../../tools/pocket-check/clip.js';
import type { Pixels } from '../../tools/pocket-check/picture.js';
import { psnr } from '../../tools/pocket-check/video-frames.js';
import { startAssetServer } from '../helpers/asset-server.js';
import { getJob, readAsset, testUserId, wanPayload, type WanPayload } from '../helpers/jobs.js';
import { startProducer } from '../helpers/producer.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { decodeVideo, readFrame, toPng } from '../helpers/videos.js';
import { wanModelsFolder } from '../helpers/wan-models.js';

t.setTimeout(900_000); // minutes where other programs compute too
const skip = requireCommand('redis-server') || requireCommand('ffmpeg') || requireCommand('ffprobe');

const frames = 17;
const moving = {
  kind: 'clip',
  prompt: 'a red circle moves right',
  colour: 'red',
  shape: 'circle',
  background: 'white',
  motion: 'right',
  speed: 'fast',
} as const;

t.test('from a Redis list to the frames of the video', { skip }, async (t) => {
  const clip = drawClip(moving, frames);
  const [first, last] = [clip[0] as Pixels, clip[frames - 1] as Pixels];
  const { redis, receiver, env } = await startProducer(t);
  const other = drawClip(
    { ...moving, colour: 'blue', shape: 'square', background: 'yellow' },
    5,
  )[0] as Pixels;
  const pictures = await startAssetServer({
    'a.png': await toPng(first),
    'b.png': await toPng(last),
    'other.png': await toPng(other),
  });
  t.teardown(() => pictures.close());
  const service = await startService({
    env: { ...env, REFERENCE_ALLOWED_HOSTS: pictures.host, MODELS_DIR: await wanModelsFolder(t) },
  });
  t.teardown(() => service.cleanUp());
  const [a, b] = [`${pictures.origin}/a.png`, `${pictures.origin}/b.png`];

  async function make(t: Test, overrides: Partial<WanPayload>) {
    const payload = wanPayload({ prompt: moving.prompt, ...overrides });
    await redis.lpush('wan_queue', JSON.stringify(payload));
    const { body } = await receiver.waitForTerminal(payload.id, 120_000);
    t.equal(body.status, 'completed', body.error_message ?? 'no error');
    t.match(body.assets, [
      `/assets/${payload.type}/${testUserId}/${payload.id}/0.${payload.type.startsWith('video') ? 'mp4' : 'png'}`,
    ]);
    return { payload, body, file: await readAsset(service, body.assets[0] ?? '') };
  }

  /** What every video must be, and how near its ends are to the pictures it was given. */
  async function check(t: Test, made: Awaited<ReturnType<typeof make>>, expected: Record<string, unknown>) {
    const video = await decodeVideo(made.file);
    t.equal(video.frames.length, frames, 'frames in the file');
    t.match(video, { codec: 'h264', pixelFormat: 'yuv420p', framesPerSecond: 16, faststart: true });
    t.match(made.body.metadata, { frames, fps: 16, content_type: 'video', seed: 7, ...expected });
    t.ok(Math.abs(video.seconds - frames / 16) < 0.04);
    t.match(video.comment, /a red circle moves right[^]*Seed: 7/, 'the file says how it was made');
    const poster = await readFrame(await readAsset(service, String(made.body.metadata['poster'])));
    const shown = {
      first: psnr(video.frames[0] as Pixels, first),
      last: psnr(video.frames[frames - 1] as Pixels, last),
      poster: psnr(poster, video.frames[0] as Pixels),
    };
    t.ok(shown.poster > 30, `the poster is the first frame (${shown.poster.toFixed(1)} dB)`);
    t.comment(`first ${shown.first.toFixed(1)} dB, last ${shown.last.toFixed(1)} dB to the pictures`);
    return { video, shown };
  }

  await t.test('no reference', async (t) => {
    const made = await make(t, {});
    const { video } = await check(t, made, {
      reference_mode: 'none',
      reference_strength: null,
      guidance_scale: 6.5,
    });
    t.notOk('reference_method' in made.body.metadata);
    t.same(judgeClip({ ...moving, speed: null }, video.frames), [], 'it shows what the prompt says');
    const again = await make(t, {});
    t.ok(again.file.equals(made.file), 'the same seed makes the same file');
  });

  await t.test('single: the clip begins like the picture', async (t) => {
    const { shown } = await check(
      t,
      await make(t, {
        config: { frame_num: frames, seed: 7, image: a },
        metadata: { reference_strength: 1 },
      }),
      { reference_mode: 'single', reference_strength: 1, guidance_scale: 9, reference_method: String },
    );
    t.ok(shown.first >= 25, `${shown.first} dB`);
  });

  await t.test('start', async (t) => {
    const { shown } = await check(
      t,
      await make(t, {
        config: { frame_num: frames, seed: 7 },
        metadata: { start_reference_url: a, reference_strength: 1 },
      }),
      { reference_mode: 'start', guidance_scale: 9 },
    );
    t.ok(shown.first >= 25, `${shown.first} dB`);
  });

  await t.test('end', async (t) => {
    const { shown } = await check(
      t,
      await make(t, {
        config: { frame_num: frames, seed: 7, last_frame: b },
        metadata: { reference_strength: 1 },
      }),
      { reference_mode: 'end', guidance_scale: 9 },
    );
    t.ok(shown.last >= 25, `${shown.last} dB`);
  });

  await t.test('both', async (t) => {
    const { shown } = await check(
      t,
      await make(t, {
        config: { frame_num: frames, seed: 7, first_frame: a },
        metadata: { end_reference_url: b, reference_strength: 1 },
      }),
      { reference_mode: 'both', guidance_scale: 9 },
    );
    t.ok(shown.first >= 25, `first ${shown.first} dB`);
    t.ok(shown.last >= 25, `last ${shown.last} dB`);
  });

  await t.test(
    'the stronger a reference, the nearer the first frame to it, against what the prompt says',
    async (t) => {
      const nearness: number[] = [];
      // 25 steps: with half as many there is hardly one between the strengths that let the frame go
      for (const strength of [0.1, 0.4, 0.7, 1]) {
        const { body, file } = await make(t, {
          config: { frame_num: 5, sample_steps: 25, seed: 7, first_frame: `${pictures.origin}/other.png` },
          metadata: { reference_strength: strength },
        });
        t.match(body.metadata, { reference_mode: 'start', reference_strength: strength });
        nearness.push(psnr((await decodeVideo(file)).frames[0] as Pixels, other));
      }
      const inDecibels = nearness.map((each) => each.toFixed(1)).join(', ');
      t.same(
        [...nearness].sort((x, y) => x - y),
        nearness,
        `${inDecibels} dB`,
      );
      t.ok(
        (nearness[3] as number) >= 25 && (nearness[3] as number) > (nearness[0] as number) + 5,
        `${inDecibels} dB`,
      );
    },
  );

  await t.test('one picture, with and without a reference', async (t) => {
    const plain = await make(t, { type: 'image_fast', config: { seed: 7 } });
    t.match(plain.body.metadata, { frames: 1, content_type: 'image', steps: 25, reference_mode: 'none' });
    t.notOk('fps' in plain.body.metadata || 'poster' in plain.body.metadata);
    const picture = await readFrame(plain.file);
    t.same(judgeClip({ ...moving, kind: 'picture' }, [picture]), [], 'it shows what the prompt says');
    const near = await make(t, { type: 'image_fast', config: { seed: 7, image: a } });
    t.match(near.body.metadata, { reference_mode: 'single', guidance_scale: 8.4 });
    t.ok(
      psnr(await readFrame(near.file), first) > psnr(picture, first),
      'nearer to its reference than without one',
    );
  });

  await t.test('frame_num: 83 makes 81 frames and the callback says so', async (t) => {
    for (const [asked, made] of [
      [83, 81],
      [81, 81],
      [5, 5],
      [1, 1],
    ] as const) {
      const { body, file } = await make(t, { config: { frame_num: asked, seed: 7, sample_steps: 2 } });
      t.match(body.metadata, { frames: made, frames_requested: asked, duration_seconds: made / 16 });
      t.equal((await decodeVideo(file)).frames.length, made, `${asked} asked`);
    }
    for (const refused of [0, -4, 1e6, 'many']) {
      const payload = wanPayload({ config: { frame_num: refused } });
      await redis.lpush('wan_queue', JSON.stringify(payload));
      t.match((await receiver.waitForTerminal(payload.id)).body, {
        status: 'failed',
        error_message: /^Invalid parameters: config\.frame_num /,
        metadata: { error_type: 'InvalidParameters' },
      });
    }
  });

  await t.test('progress by stage, an honest rest, previews', async (t) => {
    const payload = wanPayload({ config: { frame_num: 33, seed: 1 } });
    const client = createClient({ url: service.baseUrl, key: service.apiKey });
    const watch = async () => {
      const seen: Array<ProgressView & { atMs: number }> = [];
      let previews = 0;
      for await (const { event, data } of client.followJob(payload.id, {
        signal: AbortSignal.timeout(60_000),
      })) {
        if (event === 'progress') seen.push({ ...data, atMs: Date.now() });
        if (event === 'preview') previews += 1;
      }
      return { seen, previews, endMs: Date.now() };
    };
    await service.send('POST', '/jobs', payload);
    const { seen, previews } = await watch();
    const stages = [...new Set(seen.map(({ stage }) => stage))];
    t.same(
      stages.filter((stage) => ['text', 'denoise', 'decode', 'encode', 'upload'].includes(stage)),
      ['text', 'denoise', 'decode', 'encode', 'upload'],
      'every stage, in order',
    );
    t.ok(seen.filter(({ stage }) => stage === 'denoise').length >= 20, 'every step');
    t.ok(seen.filter(({ stage }) => stage === 'decode').length >= 5, 'every latent frame');
    t.same(
      seen.map(({ fraction }) => fraction),
      seen.map(({ fraction }) => fraction).sort((x, y) => x - y),
      'never back',
    );
    t.ok(previews >= 1, `${previews} previews`);
    const job = await getJob(service, payload.id);
    t.match(job, {
      status: 'completed',
      assets: { length: 1 },
      metadata: {
        frames: 33,
        expected_time: 180,
        stage_times: { denoise: Number, decode: Number, encode: Number, upload: Number },
      },
    });
    t.equal(job.metadata['performance_ratio'], Number(job.metadata['generation_time']) / 180);
  });
});
