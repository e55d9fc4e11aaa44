/**
 * How long `GET /health` takes while nothing runs and while the engine draws, in turns on one running service.
 * Gate: the 99th percentile while drawing is at most twice the idle one.
 */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { sdxlPayload, submit, waitForJob } from '../test/helpers/jobs.js';
import { startService } from '../test/helpers/service-process.js';
import { markdownTable, percentile } from './statistics.js';

const rounds = 8;
const samplesPerPhase = 400;
const pauseMs = 5;
const gateRatio = 2;

const service = await startService({ env: { LOG_LEVEL: 'warn' } });
try {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  await sample(agent, samplesPerPhase);
  const idle: number[] = [];
  const drawing: number[] = [];
  let imagesDrawn = 0;
  for (let round = 0; round < rounds; round += 1) {
    idle.push(...await sample(agent, samplesPerPhase));
    const ids = [await submitLong(round * 10), await submitLong(round * 10 + 5)];
    await waitForJob(service, ids[0] ?? '', (job) => job.progress.stage === 'denoise');
    drawing.push(...await sample(agent, samplesPerPhase));
    const last = await waitForJob(service, ids[1] ?? '', () => true);
    if (last.status === 'completed') throw new Error('The jobs ended before the samples were taken: nothing was drawn during some of them');
    for (const id of ids) await service.send('DELETE', `/jobs/${id}`);
    for (const id of ids) await waitForJob(service, id);
    imagesDrawn += 1;
    await sleep(200);
  }
  agent.destroy();
  const row = (name: string, samples: number[]) => [name, samples.length, ...[0.5, 0.9, 0.99, 1].map((fraction) => percentile(samples, fraction).toFixed(2))];
  const ratio = percentile(drawing, 0.99) / percentile(idle, 0.99);
  process.stdout.write(`${markdownTable(['GET /health', 'requests', 'p50 ms', 'p90 ms', 'p99 ms', 'max ms'], [row('idle', idle), row('while drawing', drawing)])}\n`);
  process.stdout.write(`\np99 while drawing ÷ p99 idle = ${ratio.toFixed(2)} (gate: at most ${gateRatio}); ${imagesDrawn} rounds of both\n`);
  process.exitCode = ratio <= gateRatio ? 0 : 1;
} finally {
  await service.cleanUp();
}

function submitLong(seed: number): Promise<string> {
  return submit(service, sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 6, seed } }));
}

/** Milliseconds of `count` requests, one at a time over one connection. */
async function sample(agent: http.Agent, count: number): Promise<number[]> {
  const durations: number[] = [];
  for (let index = 0; index < count; index += 1) {
    durations.push(await timeRequest(agent));
    await sleep(pauseMs);
  }
  return durations;
}

function timeRequest(agent: http.Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const startedAt = process.hrtime.bigint();
    http.get(`${service.baseUrl}/health`, { agent }, (response) => {
      response.resume();
      response.on('end', () => (response.statusCode === 200 ? resolve(Number(process.hrtime.bigint() - startedAt) / 1e6) : reject(new Error(`/health answered ${response.statusCode}`))));
    }).on('error', reject);
  });
}
