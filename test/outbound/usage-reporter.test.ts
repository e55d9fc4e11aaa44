import t, { type Test } from 'tap';
import { createCallbackSender } from '../../src/services/outbound/sender.js';
import type { FinishedJobFacts } from '../../src/services/outbound/usage-reporter.js';
import {
  createUsageReporter,
  type UsageReporterOptions,
} from '../../src/services/outbound/usage-reporter.js';
import { silentLog, startReceiver } from './support.js';
import { waitFor } from '../helpers/wait-for.js';

const facts = (id: string, more: Partial<FinishedJobFacts> = {}): FinishedJobFacts => ({
  job: { id, type: 'sdxl_image_fast', userId: 'u1' },
  outcome: 'completed',
  reason: 'completed',
  generationSeconds: 4.250_44,
  assets: 3,
  totalBytes: 4_250_400,
  deviceBytes: 9.2 * 1024 ** 3,
  stageSeconds: {},
  ...more,
});

function createReporter(t: Test, url: string, more: Partial<UsageReporterOptions> = {}) {
  const reporter = createUsageReporter({
    url,
    sender: createCallbackSender({ timeoutMs: 500 }),
    workerId: 'w1',
    log: silentLog,
    backoff: { baseMs: 5, maxMs: 10, jitter: 0 },
    now: () => Date.parse('2026-01-31T12:00:00Z'),
    ...more,
  });
  t.teardown(() => reporter.stop(0));
  return reporter;
}

void t.test('a finished job leaves the two records of the contract', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(204).end();
  });
  const reporter = createReporter(t, receiver.url);
  reporter.report(facts('j1'));
  reporter.report(
    facts('j2', {
      outcome: 'failed',
      reason: 'OutOfMemory',
      assets: 0,
      totalBytes: 0,
      deviceBytes: null,
      generationSeconds: 0,
    }),
  );
  await waitFor(() => reporter.pending() === 0, { what: 'nothing waiting' });
  const timestamp = '2026-01-31T12:00:00.000Z';
  t.same(
    receiver.received.map(({ body }) => JSON.parse(body) as unknown),
    [
      {
        worker_id: 'w1',
        job_type: 'sdxl_image_fast',
        generation_time: 4.25,
        vram_used: 9.2,
        success: true,
        timestamp,
      },
      {
        job_id: 'j1',
        user_id: 'u1',
        job_type: 'sdxl_image_fast',
        assets_generated: 3,
        total_size_mb: 4.25,
        completion_timestamp: timestamp,
      },
      {
        worker_id: 'w1',
        job_type: 'sdxl_image_fast',
        generation_time: 0,
        vram_used: null,
        success: false,
        timestamp,
      },
      {
        job_id: 'j2',
        user_id: 'u1',
        job_type: 'sdxl_image_fast',
        assets_generated: 0,
        total_size_mb: 0,
        completion_timestamp: timestamp,
      },
    ],
  );
  t.same(
    receiver.received.map(({ headers }) => headers['webhook-id']),
    ['j1:worker_metrics', 'j1:completion_statistics', 'j2:worker_metrics', 'j2:completion_statistics'],
  );
});

void t.test('an endpoint that fails is tried again; one that refuses is not', async (t) => {
  let answers = 0;
  const receiver = await startReceiver(t, (response, _received, index) => {
    answers += 1;
    response.writeHead(index < 3 ? 503 : index === 4 ? 400 : 200).end();
  });
  const reporter = createReporter(t, receiver.url);
  reporter.report(facts('j1'));
  reporter.report(facts('j2'));
  await waitFor(() => reporter.pending() === 0, { what: 'nothing waiting' });
  t.equal(answers, 3 + 4);
  t.equal(reporter.dropped(), 1);
});

void t.test('an endpoint that is gone costs a bounded number of records and tries', async (t) => {
  const reporter = createReporter(t, 'http://127.0.0.1:1/', { maxWaiting: 10, maxAttempts: 3 });
  for (let index = 0; index < 100; index += 1) reporter.report(facts(`j${index}`));
  t.ok(reporter.pending() <= 10);
  await waitFor(() => reporter.pending() === 0, { what: 'nothing waiting' });
  t.equal(reporter.dropped(), 200);
});

void t.test('stopping sends what waits once more, and never hangs', async (t) => {
  let mode: 'fail' | 'work' | 'hang' = 'fail';
  const receiver = await startReceiver(t, (response) => {
    if (mode === 'fail') response.writeHead(503).end();
    else if (mode === 'work') response.end();
  });
  const reporter = createReporter(t, receiver.url, { backoff: { baseMs: 60_000, maxMs: 60_000, jitter: 0 } });
  for (let index = 0; index < 5; index += 1) reporter.report(facts(`j${index}`));
  await waitFor(() => receiver.received.length === 1, { what: 'the first try' });
  mode = 'work';
  await reporter.stop(5000);
  t.equal(reporter.pending(), 0);
  t.equal(receiver.received.length, 11);

  mode = 'hang';
  const other = createReporter(t, receiver.url);
  other.report(facts('late'));
  const startedMs = Date.now();
  await other.stop(100);
  t.ok(Date.now() - startedMs < 3000);
});

void t.test(
  'an endpoint that is silent when the stop begins holds it up no longer than the grace',
  async (t) => {
    const receiver = await startReceiver(t, () => {});
    const reporter = createReporter(t, receiver.url, { sender: createCallbackSender({ timeoutMs: 25_000 }) });
    reporter.report(facts('j1'));
    await waitFor(() => receiver.received.length === 1, { what: 'the request' });
    const startedMs = Date.now();
    await reporter.stop(50);
    t.ok(Date.now() - startedMs < 5000, `${Date.now() - startedMs} ms`);
    t.equal(receiver.received.length, 1, 'and nothing is sent afterwards');
  },
);
