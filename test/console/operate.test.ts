/** A bad night: an engine dies while somebody watches, letters are dead, the service goes away. */
import t from 'tap';
import { openBrowser, phone } from '../helpers/browser.js';
import { childProcesses } from '../helpers/processes.js';
import { startProducer } from '../helpers/producer.js';
import { redisOrSkip } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(900_000);
const skip = requireCommand('chromium') || (redisOrSkip(t) ? false : 'no Redis');

t.test(
  'an engine dies while watched, letters go back by reason, the service comes back',
  { skip },
  async (t) => {
    const { redis, env } = await startProducer(t);
    const service = await startService({
      env: { ...env, MAX_ATTEMPTS: '1', PREVIEW_EVERY_STEPS: '1', MAX_WAITING_JOBS: '0' },
      readyTimeoutMs: 300_000,
    });
    t.teardown(() => service.cleanUp());
    const { page, problems, shot, violations, as, signIn, open } = await openBrowser(t, {
      timeoutMs: 300_000,
    });
    const fine = async (what: string) => t.same(await violations(), [], `axe finds nothing on ${what}`);
    const button = (name: string | RegExp) => page.getByRole('button', { name, exact: true });
    const engines = () =>
      childProcesses(service.pid()).filter(
        ({ command }) => command.includes('engine-main') && command.includes('sdxl'),
      );
    await signIn(service.baseUrl, service.apiKey);

    // The engine dies in the middle of a job that somebody looks at.
    await page.getByLabel('Prompt', { exact: true }).fill('a red circle above a blue square');
    await page.getByRole('radio', { name: '6' }).check();
    await button('Draw').click();
    await page.locator('.preview').first().waitFor();
    t.ok(engines().length > 0, 'the engine is a process of its own');
    for (const { pid } of engines()) process.kill(pid, 'SIGKILL');
    await page.locator('.pictures[data-status=failed]').waitFor();
    t.match(await page.locator('.stage .notice.error').textContent(), /\w+ \w+/, 'why is said');
    await shot('engine-killed');
    await fine('a failed job');
    await open('Health');
    await page.locator('[data-engine=sdxl][data-state=ready]').waitFor();
    await shot('health');
    await fine('health');
    await button('Log').first().click();
    await page.getByText(/It ended/).waitFor();
    await fine('a log');
    await page.keyboard.press('Escape');

    // Two reasons: one that is gone by now, and one that nothing cures.
    for (const payload of ['{"no": "job"}', '{"no": "job, either"}', '{"nor": "this"}'])
      await redis.lpush('sdxl_queue', payload);
    await open('Failed');
    const reasons = page.locator('.reason');
    await waitFor(async () => (await reasons.count()) === 2, {
      what: () => 'two reasons',
      timeoutMs: 60_000,
    });
    await shot('failed');
    await fine('the dead letters');
    const hopeless = reasons.filter({ hasText: 'is missing' });
    await hopeless.getByRole('button', { name: 'Look at them' }).click();
    await hopeless.locator('pre').nth(2).waitFor();
    t.equal(await hopeless.locator('pre').count(), 3, 'letters of this reason, none of the other');
    await fine('letters');
    await hopeless.getByRole('button', { name: 'Drop', exact: true }).first().click();
    await hopeless.getByRole('button', { name: 'Drop 3 jobs for good' }).click();
    await page.getByText('3 jobs dropped.').waitFor();
    await page.getByRole('button', { name: 'Requeue 1 job' }).click();
    await page.getByText('1 job put back in line.').waitFor();
    await page.getByText('No dead letters').waitFor();
    await fine('no dead letters');
    await waitFor(
      async () => {
        const { jobs } = (await service.getJson('/jobs?status=completed')) as { jobs: unknown[] };
        return jobs.length === 1;
      },
      { what: () => 'the job that was put back to be drawn', timeoutMs: 300_000 },
    );

    await open('Setup');
    await fine('setup');
    await shot('setup');
    await as(phone);
    await open('Health');
    await shot('health-phone');
    await fine('health on a phone');
    await as({ dark: true });
    await shot('health-dark');
    await fine('health in the dark');
    await as();

    // A list that could not be had is asked for again, though no event says so.
    const asked = /\/jobs\?.*status=completed/;
    const json = { code: 'UNAVAILABLE', message: 'No list at the moment', request_id: 'none' };
    await page.route(asked, (route) => route.fulfill({ status: 503, json }));
    await open('Gallery');
    await page.getByText(json.message).waitFor();
    await page.unroute(asked);
    await page.locator('.tiles img').first().waitFor();

    // The service goes away and comes back: the page says so, and goes on.
    await service.kill();
    await page.locator('.banner').waitFor();
    await fine('a service that is away');
    await service.restart({}, 'health');
    await page.locator('.banner').waitFor({ state: 'detached' });
    t.same(problems, []);
  },
);
