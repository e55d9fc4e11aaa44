/** A bad night: an engine dies while somebody watches, letters are dead, a thousand jobs wait. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
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
const user_id = '0a0a0a0a-0000-4000-8000-000000000001';
const many = 1000;
/** A second is what it takes on a machine that does nothing else; a busy one may take its time. */
const paintLimitMs = 10_000;

t.test(
  'an engine dies while watched, letters go back by reason, a thousand jobs are listed',
  { skip },
  async (t) => {
    const { redis, env } = await startProducer(t);
    const service = await startService({
      env: { ...env, MAX_ATTEMPTS: '1', PREVIEW_EVERY_STEPS: '1', MAX_WAITING_JOBS: '0' },
      readyTimeoutMs: 300_000,
    });
    t.teardown(() => service.cleanUp());
    const { page, problems, shot, violations, as, signIn } = await openBrowser(t, { timeoutMs: 300_000 });
    const fine = async (what: string) => t.same(await violations(), [], `axe finds nothing on ${what}`);
    const button = (name: string | RegExp) => page.getByRole('button', { name, exact: true });
    const open = async (screen: string) => {
      await page
        .getByRole('navigation')
        .getByRole('link', { name: new RegExp(`^${screen}`) })
        .click();
      await page.getByRole('heading', { name: screen, exact: true }).waitFor();
    };
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

    // A queue is held, a thousand jobs wait in it, and are listed.
    await open('Queue');
    const wan = page.getByRole('region', { name: 'wan_queue' });
    await wan.getByRole('button', { name: 'Pause' }).click();
    await wan.getByText('Paused').waitFor();
    await open('Setup');
    await fine('setup');
    await shot('setup');
    const pipeline = redis.pipeline();
    for (let index = 0; index < many; index += 1)
      pipeline.lpush(
        'wan_queue',
        JSON.stringify({
          id: randomUUID(),
          type: 'image_fast',
          prompt: `a blue circle, number ${index}`,
          user_id,
          config: {},
        }),
      );
    await pipeline.exec();
    // What waits in a list of Redis is told as it was up to a second ago.
    await sleep(1100);
    await page.evaluate(`window.began = performance.now()`);
    await open('Queue');
    const painted = await page.evaluate<number>(`new Promise((resolve) => {
    const look = () => document.querySelectorAll('.row').length > 50
      ? requestAnimationFrame(() => resolve(performance.now() - window.began)) : requestAnimationFrame(look);
    look();
  })`);
    t.comment(`the first page of ${many} jobs stood after ${Math.round(painted)} ms`);
    t.ok(painted < paintLimitMs, `the first page of ${many} jobs stands after ${Math.round(painted)} ms`);
    await shot('queue');
    await fine('the queue');
    await waitFor(
      async () => {
        await page.evaluate('scrollTo(0, document.documentElement.scrollHeight)');
        return (await page.locator('.row').count()) > many;
      },
      { what: () => 'all jobs to be listed', timeoutMs: 120_000 },
    );
    const frames = await page.evaluate<number>(`new Promise((resolve) => {
    const times = []; let last = performance.now(); let step = 0;
    const next = (now) => {
      times.push(now - last); last = now; scrollBy(0, -600); step += 1;
      if (step < 40) requestAnimationFrame(next); else resolve(times.sort((a, b) => a - b)[20]);
    };
    requestAnimationFrame(next);
  })`);
    t.comment(`half of the frames while scrolling took less than ${Math.round(frames)} ms`);
    await page.getByRole('link', { name: 'a blue circle, number 500', exact: true }).click();
    const sheet = page.getByRole('dialog');
    await sheet
      .getByText(/paused/i)
      .first()
      .waitFor();
    await shot('job');
    await fine('a job that waits');
    await page.keyboard.press('Escape');
    // Again from the first page: axe looks at every row.
    await open('Setup');
    await open('Queue');
    for (const [name, view] of [
      ['queue-dark', { dark: true }],
      ['queue-phone', phone],
    ] as const) {
      await as(view);
      await shot(name);
      await fine(name);
    }
    await open('Health');
    await shot('health-phone');
    await fine('health on a phone');
    await as({ dark: true });
    await shot('health-dark');
    await fine('health in the dark');
    await as();
    await open('Queue');
    await button('Cancel all that wait').click();
    await button('Yes, cancel them').click();
    await page.getByText('1,000 jobs cancelled.').waitFor();

    // The service goes away and comes back: the page says so, and goes on.
    await service.kill();
    await page.locator('.banner').waitFor();
    await fine('a service that is away');
    await service.restart({}, 'health');
    await page.locator('.banner').waitFor({ state: 'detached' });
    t.same(problems, []);
  },
);
