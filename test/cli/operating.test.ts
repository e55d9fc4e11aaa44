/** Operators at the command line, against a service of whose queue nothing is taken. */
import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { testEngineEntry } from '../engines/support.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build, testApiKey } from '../helpers/build.js';
import { runCli } from './support.js';

const [ana, bob] = ['0a0a0a0a-0000-4000-8000-000000000001', '0b0b0b0b-0000-4000-8000-000000000002'];

t.setTimeout(240_000);

const workerIdOf = (services: object) => (services as { workerId: string }).workerId;

async function open(t: Test) {
  const { app, call, services } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }) },
    options: { engineEntry: testEngineEntry },
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  await services.store.holds.hold({ queue: 'sdxl_queue' }, { by: 'test' });
  const cwd = t.testdir({});
  return {
    services,
    run: (...args: string[]) => runCli([...args, '--url', url, '--key', testApiKey], cwd),
    async submit(id: string, fields: object = {}): Promise<string> {
      await call('POST', '/jobs', { ...goodPayloads.sdxl, id, ...fields });
      return id;
    },
  };
}

t.test('jobs by the beginning of their id', async (t) => {
  const { run, submit } = await open(t);
  const one = await submit('3f8c1d2a-52c5-4e0d-9a51-0c8a4d1f6b7e', { prompt: 'a red circle on a hill' });
  await submit('3f8caaaa-52c5-4e0d-9a51-0c8a4d1f6b7e');
  const shown = await run('jobs', 'show', '3F8C1');
  t.match(shown.stdout, new RegExp(`id +${one}`), shown.stderr);
  t.match(shown.stdout, /waits +sdxl_queue is paused/);
  const ambiguous = await run('jobs', 'show', '3f8c');
  t.equal(ambiguous.code, 2);
  t.match(ambiguous.stderr, /Several ids begin with 3f8c; write more of it: 3f8c.{32}, 3f8c/);
  t.equal((await run('jobs', 'cancel', '77')).code, 5);
  t.match((await run('jobs', 'cancel', '3f8ca')).stdout, /^3f8caaaa-.*: cancelled/);
  const listed = await run('jobs', 'list', '--text', 'RED CIRCLE on', '--queue', 'sdxl_queue');
  t.match(listed.stdout, /3f8c1d2a-\S+ +sdxl_image_fast +queued .*a red circle on a hill/);
  t.notMatch(listed.stdout, /3f8caaaa/);
});

t.test('many jobs', async (t) => {
  const { run, submit, services } = await open(t);
  for (const user of [ana, ana, bob]) await submit(randomUUID(), { user_id: user });
  t.equal((await run('jobs', 'cancel')).code, 2, 'nothing is named');
  t.equal((await run('jobs', 'cancel', randomUUID(), '--state', 'queued')).code, 2, 'one and many');
  t.match(await run('jobs', 'cancel', '--state', 'queued', '--user', ana), {
    code: 0,
    stdout: '2 cancelled, 0 told to stop\n',
  });
  t.match(await services.jobs.list({ status: 'queued' }, 10), { jobs: { length: 1 } });
});

t.test('queues and instances', async (t) => {
  const { run, services } = await open(t);
  t.match((await run('queue')).stdout, /sdxl_queue .*paused by test since/);
  t.match((await run('queue', 'resume', 'sdxl')).stdout, /^sdxl_queue: (the sdxl engine|taken from by 1)/);
  t.match(
    (await run('queue', 'pause', 'wan_queue', '--reason', 'a new card')).stdout,
    /^wan_queue: paused by .*: a new card/,
  );
  t.match((await services.store.holds.list()).queues, { wan_queue: { reason: 'a new card' } });
  t.equal((await run('queue', 'pause', 'no')).code, 2);
  const workerId = workerIdOf(services);
  t.match((await run('instance', 'drain', workerId.slice(0, -2))).stdout, `${workerId}: takes no more jobs`);
  t.match((await services.store.holds.list()).workers.get(workerId), { by: /\S/ });
  t.match((await run('instance', 'resume', 'self')).stdout, `${workerId}: takes jobs`);
  t.equal((await run('instance', 'drain', 'nobody')).code, 5);
});

t.test('dead letters by reason', async (t) => {
  const { run, submit, services } = await open(t);
  const { store } = services;
  await store.holds.hold({ workerId: workerIdOf(services) }, { by: 'test' });
  await store.holds.release({ queue: 'sdxl_queue' });
  for (const reason of ['Storage: 503', 'Storage: 504', 'Insufficient VRAM for generation']) {
    const id = await submit(randomUUID());
    const reservation = await store.reserve({
      queue: 'sdxl_queue',
      workerId: 'w',
      leaseMs: 60_000,
      begin: true,
    });
    if (reservation === null) throw new Error('there was a job');
    const ended = { status: 'failed' as const, assets: [], metadata: {}, errorMessage: reason };
    await store.deadLetter(reservation.lease, reason, { ...ended, job: { id } });
  }
  t.match((await run('dead-letters', 'reasons')).stdout, /2 +sdxl_queue .*Storage: …/);
  t.equal((await run('dead-letters', 'requeue')).code, 2);
  t.equal((await run('dead-letters', 'requeue', '--reason', 'Storage')).stdout, '2 back in line\n');
  const [letter] = await store.deadLetters(undefined, 1);
  t.match((await run('dead-letters', 'drop', letter?.id.slice(0, -3) ?? '')).stdout, /: deleted/);
  t.equal((await run('dead-letters', 'drop', '--reason', 'VRAM')).stdout, '0 deleted\n');
});
