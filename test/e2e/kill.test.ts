/** `kill -9` of the engine and of the server while a job runs: the job completes all the same, once. */
import t, { type Test } from 'tap';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { readAsset, sdxlPayload, submit, waitForJob } from '../helpers/jobs.js';
import { childProcesses, isAlive } from '../helpers/processes.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

const receiver = await startCallbackReceiver();
t.teardown(() => receiver.close());

/** The service with a job of three pictures that is being denoised now, and another one waiting behind it. */
async function startWithRunningJob(t: Test) {
  const service = await startService({ env: { CALLBACK_URL: receiver.url } });
  t.teardown(() => service.cleanUp());
  const running = await submit(
    service,
    sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 3, seed: 11 } }),
  );
  const waiting = await submit(service, sdxlPayload({ config: { num_images: 1, seed: 12 } }));
  await waitForJob(service, running, (job) => job.progress.stage === 'denoise' && job.progress.step >= 2);
  const engines = childProcesses(service.pid()).filter((child) => child.command.includes('engine-main'));
  t.ok(engines.length >= 1, 'the engine is a process of its own');
  return { service, running, waiting, engines };
}

function checkCallbacks(t: Test, id: string): void {
  const statuses = receiver.accepted(id).map((callback) => callback.body.status);
  t.equal(statuses.filter((status) => status === 'completed').length, 1, 'one terminal callback');
  t.equal(statuses.at(-1), 'completed', 'nothing after it');
}

t.test('kill -9 of the engine during a job: the job is tried again and completes', async (t) => {
  const { service, running, waiting, engines } = await startWithRunningJob(t);
  for (const engine of engines) process.kill(engine.pid, 'SIGKILL');
  t.equal((await fetch(`${service.baseUrl}/health`)).ok, true, 'the service goes on answering');
  const job = await waitForJob(service, running, undefined, 120_000);
  t.match(job, { status: 'completed', attempts: 2, assets: { length: 3 } });
  for (const asset of job.assets) t.ok((await readAsset(service, asset)).length > 500);
  t.match(await waitForJob(service, waiting), { status: 'completed' });
  for (const id of [running, waiting]) {
    await receiver.waitForTerminal(id);
    checkCallbacks(t, id);
  }
});

t.test('kill -9 of the server during a job: after the restart the job completes', async (t) => {
  const { service, running, waiting, engines } = await startWithRunningJob(t);
  const { signal } = await service.kill('SIGKILL');
  t.equal(signal, 'SIGKILL');
  await waitFor(() => engines.every((engine) => !isAlive(engine.pid)), {
    what: 'the engines to end with their server',
    timeoutMs: 15_000,
  });
  await service.restart();
  const job = await waitForJob(service, running, undefined, 120_000);
  t.match(job, { status: 'completed', assets: { length: 3 } });
  t.ok(job.attempts >= 2, `it took ${job.attempts} attempts`);
  for (const asset of job.assets) t.ok((await readAsset(service, asset)).length > 500);
  t.match(await waitForJob(service, waiting), { status: 'completed' });
  for (const id of [running, waiting]) {
    await receiver.waitForTerminal(id);
    checkCallbacks(t, id);
  }
});
