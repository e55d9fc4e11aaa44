/** What a video leaves behind when it is cancelled or its engine killed: nothing, and the next job runs. */
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { createClient } from '../../client/index.js';
import type { ProgressView } from '../../src/cli/job-view.js';
import { getJob, readAsset, submit, testUserId, waitForJob, wanPayload } from '../helpers/jobs.js';
import { childProcesses } from '../helpers/processes.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { decodeVideo } from '../helpers/videos.js';
import { waitFor } from '../helpers/wait-for.js';
import { wanModelsFolder } from '../helpers/wan-models.js';

t.setTimeout(900_000); // minutes where other programs compute too
const skip = requireCommand('ffmpeg') || requireCommand('ffprobe');

const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-slow-'));
t.teardown(() => rm(folder, { recursive: true, force: true }));
// The real ffmpeg, reading its frames at the pace they are played: decoding and encoding last long enough to
// be interrupted.
const slowFfmpeg = path.join(folder, 'ffmpeg');
await writeFile(
  slowFfmpeg,
  '#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\ncase "$*" in *pipe:0*) exec ffmpeg -re "$@";; *) exec ffmpeg "$@";; esac\n',
);
await chmod(slowFfmpeg, 0o755);

t.test('cancelled or killed in the middle of it', { skip }, async (t) => {
  const service = await startService({ env: { FFMPEG: slowFfmpeg, MODELS_DIR: await wanModelsFolder(t) } });
  t.teardown(() => service.cleanUp());
  const client = createClient({ url: service.baseUrl, key: service.apiKey });
  const engine = () =>
    childProcesses(service.pid()).find(
      ({ command }) => command.includes('engine-main') && command.endsWith('wan'),
    )?.pid ?? 0;
  const encoders = () => childProcesses(engine()).filter(({ command }) => command.includes('rawvideo'));
  const memory = () =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${engine()}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  const long = (config: Record<string, unknown> = {}) =>
    wanPayload({ config: { frame_num: 81, sample_steps: 2, seed: 3, ...config } });

  async function reach(id: string, accept: (progress: ProgressView) => boolean): Promise<void> {
    for await (const { event, data } of client.followJob(id, { signal: AbortSignal.timeout(60_000) }))
      if (event === 'progress' && accept(data)) return;
    throw new Error(`${id} ended before: ${JSON.stringify(await getJob(service, id))}`);
  }

  const jobFolders = async () =>
    (await readdir(path.join(service.dataDir, 'work'), { recursive: true })).filter((name) =>
      name.includes(path.sep),
    );

  // As long as those that are cancelled: what the runtime keeps for the next of a size is there before.
  const whole = await waitForJob(service, await submit(service, long()), undefined, 90_000);
  t.match(whole, { status: 'completed', metadata: { frames: 81 } });
  t.equal(
    (await decodeVideo(await readAsset(service, whole.assets[0] ?? ''))).frames.length,
    81,
    'FFMPEG names the program that is used',
  );
  const before = memory();

  for (const [stage, config] of [
    ['denoise', { sample_steps: 50 }],
    ['decode', {}],
    ['encode', {}],
  ] as const) {
    await t.test(`cancelled during ${stage}`, async (t) => {
      const pid = engine();
      const id = await submit(service, long(config));
      await reach(id, (progress) => progress.stage === stage && (stage === 'encode' || progress.step >= 1));
      if (stage !== 'denoise') t.equal(encoders().length, 1, 'ffmpeg is at work');
      const startedMs = Date.now();
      t.ok((await service.send('DELETE', `/jobs/${id}`)).ok);
      t.match(await waitForJob(service, id), { status: 'cancelled', assets: [] });
      await waitFor(() => encoders().length === 0, { what: 'ffmpeg to be gone', timeoutMs: 5000 });
      await waitFor(async () => (await jobFolders()).length === 0, { what: 'no file left', timeoutMs: 5000 });
      t.comment(
        `gone after ${Date.now() - startedMs} ms; engine at ${memory().toFixed(0)} MB, ${before.toFixed(0)} before`,
      );
      t.notOk(
        existsSync(path.join(service.dataDir, 'assets/video_fast', testUserId, id)),
        'nothing is stored',
      );
      t.equal(engine(), pid, 'the engine was not ended for it');
    });
  }
  // Garbage is collected while something computes: a leak would stay however many jobs follow.
  await waitFor(
    async () => {
      await waitForJob(service, await submit(service, long({ frame_num: 5 })));
      return memory() < before * 1.25 + 30;
    },
    { what: () => `${before} MB as before, there are ${memory()} MB after three cancelled jobs` },
  );

  await t.test('kill -9 of the engine: its encoder goes too, the job is tried again', async (t) => {
    const id = await submit(service, long());
    await reach(id, ({ stage, step }) => stage === 'decode' && step >= 2);
    const [encoder] = encoders();
    t.ok(encoder, 'ffmpeg is at work');
    process.kill(engine(), 'SIGKILL');
    const job = await waitForJob(service, id, undefined, 90_000);
    t.match(job, { status: 'completed', attempts: 2, metadata: { frames: 81 } });
    t.equal((await decodeVideo(await readAsset(service, job.assets[0] ?? ''))).frames.length, 81);
    t.notOk(existsSync(`/proc/${encoder?.pid}/cmdline`), 'no orphan');
    t.same(await jobFolders(), []);
  });
});

t.test('without ffmpeg videos are refused with the cure, pictures are made', { skip }, async (t) => {
  const service = await startService({
    env: { FFMPEG: path.join(folder, 'no-such-program'), MODELS_DIR: await wanModelsFolder(t, 'tiny') },
  });
  t.teardown(() => service.cleanUp());
  const refused = await service.send('POST', '/jobs', wanPayload());
  t.equal(refused.status, 503);
  t.match(await refused.json(), { code: 'UNAVAILABLE', message: /video_fast .*ffmpeg.* FFMPEG/ });
  t.match(
    await waitForJob(service, await submit(service, wanPayload({ type: 'image_fast', config: { seed: 1 } }))),
    { status: 'completed', assets: { length: 1 } },
  );
  t.match(await service.getJson('/capabilities'), {
    job_types: { video_fast: { available: false }, image_fast: { available: true } },
  });
  const { features_off: off } = (await service.getJson('/capabilities')) as {
    features_off: Array<{ feature: string; reason: string }>;
  };
  t.match(
    off.find(({ feature }) => feature === 'video'),
    { reason: /ffmpeg/ },
  );
  const { details } = (await service.getJson('/worker/validate')) as {
    details: { findings: Array<{ subject: string; severity: string; cure?: string }> };
  };
  t.match(
    details.findings.find(({ subject }) => subject === 'ffmpeg'),
    { severity: 'warning', cure: /FFMPEG/ },
  );
});
