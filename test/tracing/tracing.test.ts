import t from 'tap';
import { readConfig } from '../../src/config.js';
import { startTracing } from '../../src/telemetry.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload, waitForJob } from '../helpers/jobs.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';
import { startCollector } from './collector.js';

t.test('no collector configured: nothing is started', async (t) => {
  t.equal(await startTracing(readConfig({}), { version: '0' }), undefined);
});

t.test(
  "a job goes on in its producer's trace: stages, the engine's stages, its callbacks; every line of the log says whose it is",
  async (t) => {
    const collector = await startCollector();
    const receiver = await startCallbackReceiver();
    const service = await startService({
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=a%20b,authorization=Basic dXNlcjpwYXNz==',
        OTEL_SERVICE_NAME: 'worker-under-test',
        CALLBACK_URL: receiver.url,
      },
    });
    t.teardown(async () => {
      await service.cleanUp();
      await receiver.close();
      await collector.close();
    });
    const traceId = '0af7651916cd43dd8448eb211c80319c';
    const parent = 'b7ad6b7169203331';
    const payload = sdxlPayload({ prompt: 'a red circle nobody must read' });
    const answer = await service.send('POST', '/jobs', payload, {
      traceparent: `00-${traceId}-${parent}-01`,
    });
    t.equal(answer.status, 202);
    t.equal((await waitForJob(service, payload.id)).status, 'completed');
    await waitFor(() => receiver.received.some(({ body }) => body.status === 'completed'), {
      what: 'the callback',
    });
    await service.kill('SIGTERM');

    const own = collector.spans.filter((span) => span.traceId === traceId);
    const job = own.find(({ name }) => name === 'job sdxl_image_fast');
    t.match(job, {
      parentSpanId: parent,
      failed: false,
      attributes: {
        'job.id': payload.id,
        'job.worker': 'sdxl',
        'job.queue': 'sdxl_queue',
        'job.outcome': 'completed',
      },
    });
    for (const name of [
      'generate',
      'upload',
      'engine text',
      'engine denoise',
      'engine decode',
      'engine encode',
      'callback processing',
      'callback completed',
    ]) {
      t.equal(
        own.find((span) => span.name === name)?.parentSpanId,
        job?.spanId,
        `${name} belongs to the job`,
      );
    }
    const posts = own.filter(({ name }) => name === 'POST');
    t.same(
      new Set(posts.map(({ parentSpanId }) => own.find(({ spanId }) => spanId === parentSpanId)?.name)),
      new Set(['callback processing', 'callback completed']),
    );
    t.ok(
      receiver.received.every(({ headers }) => String(headers['traceparent']).startsWith(`00-${traceId}-`)),
      'the receiver can go on with the trace',
    );
    t.same([...collector.services], ['worker-under-test']);
    t.match(collector.headers[0], { 'x-tenant': 'a b', authorization: 'Basic dXNlcjpwYXNz==' });
    t.notOk(
      collector.spans.some(({ attributes }) => String(attributes['url.full']).includes('/v1/traces')),
      'the collector is not told of being told',
    );

    const lines = service
      .logs()
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const jobLines = lines.filter((line) => line['job_id'] === payload.id && line['event'] === undefined);
    t.ok(jobLines.length >= 2);
    for (const line of jobLines)
      t.match(
        line,
        { job_type: 'sdxl_image_fast', worker: 'sdxl', attempt: 1, stage: /^(begin|done|encode|upload)$/ },
        String(line['msg']),
      );
    t.ok(jobLines.some((line) => line['msg'] === 'job begun' && line['prompt'] === '[redacted]'));
    t.notOk(
      service.logs().some((line) => line.includes('nobody must read')),
      'no prompt in the log',
    );
  },
);
