/**
 * Every value of the reference's examples, by type and form: routes, callbacks, usage records and `/enhance`,
 * of a service that runs jobs on a simulated card of 48 GB. What the models draw is judged elsewhere.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { pino } from 'pino';
import t from 'tap';
import { createSimulatedGpu } from '../engines/simulated-gpu.js';
import { testEngineEntry, until } from '../engines/support.js';
import { createTestEnhancement } from '../enhancement/support.js';
import { build } from '../helpers/build.js';
import { type CallbackBody, startCallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload, wanPayload } from '../helpers/jobs.js';
import * as forms from './reference-forms.js';

const gib = 2 ** 30;
/** What the simulated card does not tell. */
const workload = { name: 'NVIDIA RTX 6000 Ada Generation', utilization: 0.85, temperatureCelsius: 72 };

t.test("values as the reference's examples have them", async (t) => {
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const usage: Array<Record<string, unknown>> = [];
  const metrics = createServer((request, response) => {
    let body = '';
    request
      .on('data', (chunk) => (body += String(chunk)))
      .on('end', () => {
        usage.push(JSON.parse(body) as Record<string, unknown>);
        response.end();
      });
  }).listen(0, '127.0.0.1');
  t.teardown(() => void metrics.close());
  await new Promise((resolve) => metrics.once('listening', resolve));

  const dir = t.testdir({ sdxl: {}, wan: {} });
  const card = createSimulatedGpu(path.join(dir, 'card'), 48 * gib);
  const heldBytes = { sdxl: 9.2 * gib, wan: 15 * gib };
  const engine = (residentBytes: number) => ({
    load: {
      modelDir: 'none',
      device: 'cuda' as const,
      threads: 1,
      options: { card: path.join(dir, 'card'), residentBytes, workingBytes: 0 },
    },
  });
  const { enhancement } = await createTestEnhancement(t);
  const lines: Array<Record<string, unknown>> = [];
  const log = pino({}, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const { call, engines } = await build(t, {
    log,
    env: {
      MODELS_DIR: dir,
      CALLBACK_URL: receiver.url,
      METRICS_URL: `http://127.0.0.1:${(metrics.address() as AddressInfo).port}/usage`,
    },
    options: {
      engineEntry: testEngineEntry,
      gpuProbes: [
        { ...card, read: () => card.read().then((reading) => reading && { ...reading, ...workload }) },
      ],
      engines: { sdxl: engine(heldBytes.sdxl), wan: engine(heldBytes.wan) },
    },
    services: { enhancement },
    start: true,
  });
  await until('both engines measured', () =>
    (['sdxl', 'wan'] as const).every(
      (kind) =>
        engines.status(kind).state === 'ready' && engines.status(kind).memory?.deviceBytes !== undefined,
    ),
  );

  const request = { order: 'A-7', tags: ['x', 'y'], empty: '', nothing: null };
  const jobs = [
    sdxlPayload({ metadata: request }),
    {
      ...sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 3 } }),
      compel_enabled: true,
      compel_weights: '(red:1.3), (circle:1.2)',
    },
    { ...sdxlPayload(), compel_enabled: false, compel_weights: '(red:1.3)' },
    wanPayload({ config: { frame_num: 83 }, metadata: request }),
    wanPayload({ type: 'image_high', config: {} }),
    wanPayload({ type: 'video7b_fast_enhanced', metadata: { enhancement_type: 'chat' } }),
    { ...sdxlPayload(), compel_enabled: true, compel_weights: '(invalid:weights)' },
  ];
  const told = new Map<string, CallbackBody>();
  for (const job of jobs) {
    t.equal((await call('POST', '/jobs', job)).statusCode, 202);
    const { body } = await receiver.waitForTerminal(job.id, 60_000);
    told.set(job.id, body);
    t.equal(body.status, 'completed', body.error_message ?? 'no error');
    t.same(forms.misfits(body.metadata, forms.completedOnCard), [], `${job.type}: metadata`);
    const own = job.type.startsWith('sdxl') ? heldBytes.sdxl : heldBytes.wan;
    t.equal(body.metadata['vram_used_gb'], own / gib, "its own worker's, in GiB");
    t.equal(body.metadata['vram_total_gb'], 48);
    t.same(body.metadata['request'], job.metadata, 'its own metadata comes back');
    for (const { body: earlier } of receiver.accepted(job.id))
      t.same(earlier.metadata['request'], job.metadata, `with ${earlier.status} too`);
    const shown = (await call('GET', `/jobs/${job.id}`)).json<{ metadata: Record<string, unknown> }>();
    t.same(shown.metadata['request'], job.metadata);
  }
  const metadataOf = (index: number) => told.get(jobs[index]?.id ?? '')?.metadata;
  t.match(metadataOf(1), { compel_enabled: true, compel_weights: '(red:1.3), (circle:1.2)' });
  t.match(metadataOf(2), { compel_enabled: false, compel_weights: null });
  t.match(metadataOf(5), { enhancement_type: 'base', enhancement_success: false, enhancement_reason: /\S/ });

  t.match(metadataOf(6), {
    enhancement_strategy: 'fallback',
    compel_success: false,
    final_prompt_type: 'string',
    compel_error: /entry 1 is not of the form/,
  });
  for (const [index, message, reason] of [
    [5, 'the prompt is used as it came', 'Model not available'],
    [6, 'compel_weights were not applied', /entry 1 is not of the form/],
  ] as const)
    t.match(
      lines.find(({ msg, job_id: id }) => msg === message && id === jobs[index]?.id),
      { reason },
      message,
    );

  await until('the usage records', () => usage.length === 2 * jobs.length);
  for (const record of usage)
    t.same(
      forms.misfits(record, 'vram_used' in record ? forms.workerMetrics : forms.completionStatistics),
      [],
    );
  const [first] = usage;
  t.equal(first?.['generation_time'], metadataOf(0)?.['generation_time'], 'rounded as in the callback');
  t.equal(first?.['vram_used'], metadataOf(0)?.['vram_used_gb']);

  for (const [method, url, form] of [
    ['GET', '/health', forms.health],
    ['GET', '//health', forms.health],
    ['GET', '/worker/status', forms.workerStatus],
    ['GET', '/worker/resources', forms.workerResources],
    ['GET', '/worker/validate', forms.workerValidation],
    ['POST', '/worker/restart/sdxl', forms.workerRestart],
    ['POST', '/worker/restart/wan', forms.workerRestart],
  ] as const)
    t.same(forms.misfits((await call(method, url)).json(), form), [], url);

  for (const model of [undefined, 'qwen_base', 'qwen_instruct'] as const) {
    const answer = await call('POST', '/enhance', { prompt: 'a cat', model, session_id: 's' });
    t.same(forms.misfits(answer.json(), forms.enhanced), [], model ?? 'no model');
    t.equal(answer.json<{ model: string }>().model, model ?? 'qwen_base', 'what was asked for');
  }
  const failed = await call('POST', '/enhance', { prompt: 'a cat [base: lost]' });
  t.same(forms.misfits(failed.json(), forms.notEnhanced), []);
  t.equal(failed.json<{ enhanced_prompt: string }>().enhanced_prompt, 'a cat [base: lost]');
});
