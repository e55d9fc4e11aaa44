import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config.js';
import { projectRoot } from '../../src/lib/project.js';
import { createServices } from '../../src/services/index.js';
import { silentLog, until } from '../engines/support.js';

const modelsDir = path.join(projectRoot(), 'test/parity/models');
const small = { width: 64, height: 64, seed: 5 };

async function start(t: Test, dir: string, environment: Record<string, string> = {}) {
  const config = readConfig({
    DATA_DIR: dir,
    MODELS_DIR: modelsDir,
    ORT_DEVICE: 'cpu',
    SHUTDOWN_GRACE_SECONDS: '5',
    ...environment,
  });
  const registry = new Registry();
  const services = await createServices(config, silentLog, { registry, environment: process.env });
  t.teardown(() => services.stop());
  const submit = async (fields: Record<string, unknown> = {}) =>
    (
      await services.jobs.submit(
        { type: 'sdxl_image_fast', prompt: 'a red circle', user_id: randomUUID(), config: small, ...fields },
        {},
      )
    ).record.id;
  const ended = async (id: string) => {
    await until(
      `the end of ${id}`,
      async () => ['completed', 'failed', 'cancelled'].includes((await services.store.get(id))?.status ?? ''),
      60_000,
    );
    return services.store.get(id);
  };
  return { services, registry, submit, ended };
}

t.test('the real engine: from a payload to pictures on the disk and a callback', async (t) => {
  const received: Array<Record<string, unknown>> = [];
  const usage: Array<Record<string, unknown>> = [];
  const server = createServer((request, response) => {
    let body = '';
    request
      .on('data', (chunk) => {
        body += String(chunk);
      })
      .on('end', () => {
        (request.url === '/usage' ? usage : received).push(JSON.parse(body) as Record<string, unknown>);
        response.end();
      });
  }).listen(0, '127.0.0.1');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  await new Promise((resolve) => server.once('listening', resolve));

  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const dir = t.testdir({});
  const { services, registry, submit, ended } = await start(t, dir, {
    CALLBACK_URL: `${origin}/job-callback`,
    METRICS_URL: `${origin}/usage`,
  });
  await services.start();
  const id = await submit({
    config: { ...small, num_images: 3 },
    compel_enabled: true,
    compel_weights: '(red:1.3), (circle:1.2)',
  });
  const record = await ended(id);
  t.match(record, {
    status: 'completed',
    attempts: 1,
    metadata: {
      seed: 5,
      seeds: [5, 6, 7],
      compel_success: true,
      device: 'cpu',
      model: 'sdxl-tiny',
      width: 64,
    },
  });
  const files = (record?.assets ?? []).map((asset) => path.join(dir, asset));
  t.equal(files.length, 3);
  const bytes = files.map((file) => readFileSync(file));
  for (const each of bytes) t.match(await sharp(each).metadata(), { format: 'png', width: 64, height: 64 });
  t.same(
    bytes.map((each) => /Seed: (\d+)/.exec(each.toString('latin1'))?.[1]),
    ['5', '6', '7'],
    'each file tells its own seed',
  );
  t.equal(new Set(bytes.map((each) => each.toString('base64'))).size, 3, 'three different pictures');

  const second = await ended(
    await submit({
      config: { ...small, seed: 6 },
      compel_enabled: true,
      compel_weights: '(red:1.3), (circle:1.2)',
    }),
  );
  const alone = readFileSync(path.join(dir, second?.assets[0] ?? ''));

  t.ok(alone.equals(bytes[1] ?? Buffer.alloc(0)), 'the second of a batch is the one of seed + 1');

  await until('the callbacks', () => received.filter((each) => each['status'] === 'completed').length === 2);
  t.match(
    received.find((each) => each['status'] === 'completed'),
    { job_id: id, assets: record?.assets, metadata: { num_images: 3, worker_version: services.version } },
  );
  await until('the usage records', () => usage.length === 4);
  t.match(usage, [
    { worker_id: services.workerId, job_type: 'sdxl_image_fast', success: true },
    { job_id: id, assets_generated: 3 },
    { success: true },
    { assets_generated: 1 },
  ]);
  t.match(
    await registry.metrics(),
    /ourvidz_jobs_total\{type="sdxl_image_fast",outcome="completed",reason="completed"\} 2/,
  );
  t.notOk(existsSync(path.join(dir, 'work', id)));

  const explained = await submit({ prompt: 'a (red:1.3) circle', config: { ...small, explain: true } });
  t.match((await ended(explained))?.metadata['explain'], {
    tokens: [
      { token: 'a', weight: 1 },
      { token: 'red', weight: 1.3 },
      { token: 'circle', weight: 1 },
    ],
    timesteps: { length: 15 },
  });
  await until('its callback', () =>
    received.some((each) => each['job_id'] === explained && each['status'] === 'completed'),
  );
  t.notOk(JSON.stringify(received).includes('timesteps'), 'callbacks stay short');

  const { pid } = services.engines.status('sdxl');
  const interrupted = await submit({ type: 'sdxl_image_high', config: { width: 256, height: 256 } });
  await until('the engine to be busy with it', () => services.engines.status('sdxl').state === 'busy');
  process.kill(pid ?? 0, 'SIGKILL');
  t.match(await ended(interrupted), { status: 'completed', attempts: 2 }, 'killed mid-job: tried again');
});

t.test('what is accepted survives a restart of the services', async (t) => {
  const dir = t.testdir({});
  const before = await start(t, dir);
  const ids = [await before.submit(), await before.submit()];
  await before.services.stop();
  const after = await start(t, dir);
  await after.services.start();
  for (const id of ids) t.match(await after.ended(id), { status: 'completed' });
});

t.test('no model folder: the engine says why and jobs for it are refused', async (t) => {
  const { services, submit } = await start(t, t.testdir({}), { MODELS_DIR: t.testdirName });
  t.match(services.engines.status('sdxl'), { state: 'stopped', reason: /there is no sdxl model folder in/ });
  await t.rejects(submit(), { code: 'UNAVAILABLE' });
  await t.rejects(services.jobs.submit({ type: 'image_fast', prompt: '', user_id: 'x' }, {}), {
    code: 'INVALID_PARAMETERS',
    statusCode: 400,
  });
});
