/**
 * How long `GET /health` takes while nothing runs, while SDXL draws, and while SDXL and WAN both compute, in
 * turns on one running service. Gates: the 99th percentile while SDXL draws is at most twice the idle one;
 * while both compute, on two cores, at most 50 ms.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { sdxlPayload, submit, waitForJob, wanPayload } from '../test/helpers/jobs.js';
import { startService } from '../test/helpers/service-process.js';
import { createHealthProbe, healthTable, type HealthProbe } from './health-probe.js';
import { percentile } from './statistics.js';

const rounds = 6;
const samplesPerPhase = 400;
const gateRatio = 2;
const gateBothMs = 50;

const service = await startService({ env: { LOG_LEVEL: 'warn' } });
try {
  const probe = createHealthProbe(service.baseUrl);
  await probe.sample(samplesPerPhase);
  const samples: Record<'idle' | 'sdxl' | 'both', number[]> = { idle: [], sdxl: [], both: [] };
  for (let round = 0; round < rounds; round += 1) {
    samples.idle.push(...(await probe.sample(samplesPerPhase)));
    samples.sdxl.push(...(await during([submitLong(round * 10), submitLong(round * 10 + 5)], probe)));
    samples.both.push(
      ...(await during(
        [submitLong(round * 10), submitLong(round * 10 + 5), submitClip(round), submitClip(round + 50)],
        probe,
      )),
    );
  }
  probe.close();
  process.stdout.write(
    `${healthTable([
      ['idle', samples.idle],
      ['while SDXL draws', samples.sdxl],
      ['while SDXL and WAN compute', samples.both],
    ])}\n`,
  );
  const p99 = (name: keyof typeof samples) => percentile(samples[name], 0.99);
  const ratio = p99('sdxl') / p99('idle');
  process.stdout.write(
    `\np99 while SDXL draws ÷ p99 idle = ${ratio.toFixed(2)} (gate: at most ${gateRatio}); while both compute ÷ idle = ${(p99('both') / p99('idle')).toFixed(2)}, ${p99('both').toFixed(2)} ms (gate: at most ${gateBothMs} ms); ${rounds} rounds of each\n`,
  );
  process.exitCode = ratio <= gateRatio && p99('both') <= gateBothMs ? 0 : 1;
} finally {
  await service.cleanUp();
}

function submitLong(seed: number): Promise<string> {
  return submit(service, sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 6, seed } }));
}

function submitClip(seed: number): Promise<string> {
  return submit(
    service,
    wanPayload({ type: 'video_high', prompt: 'a red circle moves to the right', config: { seed } }),
  );
}

/** Samples taken while at least one job of each kind computes; then the jobs are called off. */
async function during(submitted: Array<Promise<string>>, probe: HealthProbe): Promise<number[]> {
  const ids = await Promise.all(submitted);
  const [sdxl = '', , wan] = ids;
  for (const id of wan === undefined ? [sdxl] : [sdxl, wan])
    await waitForJob(
      service,
      id,
      (job) => job.progress.stage === 'denoise' || job.status === 'failed',
      120_000,
    );
  const taken = await probe.sample(samplesPerPhase);
  for (const id of ids.filter((_, index) => index % 2 === 1)) {
    if ((await waitForJob(service, id, () => true)).status === 'completed')
      throw new Error('The jobs ended before the samples were taken: nothing computed during some of them');
  }
  for (const id of ids) await service.send('DELETE', `/jobs/${id}`);
  for (const id of ids) await waitForJob(service, id);
  await sleep(200);
  return taken;
}
