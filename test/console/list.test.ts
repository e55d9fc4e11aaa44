/**
 * A thousand jobs wait and are listed. How soon they are seen, on a machine that does nothing else:
 * `PAINT_LIMIT_MS=1000 npm run test:file -- test/console/list.test.ts`
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openBrowser, phone } from '../helpers/browser.js';
import { startProducer } from '../helpers/producer.js';
import { redisOrSkip } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(600_000);
const skip = requireCommand('chromium') || (redisOrSkip(t) ? false : 'no Redis');
const user_id = '0a0a0a0a-0000-4000-8000-000000000001';
const many = 1000;
const looks = 5;
/** The promise is a second; a machine that does other things meanwhile may take its time. */
const paintLimitMs = Number(process.env['PAINT_LIMIT_MS'] ?? 10_000);

t.test('a thousand jobs are listed, filtered and cancelled', { skip }, async (t) => {
  const { redis, env } = await startProducer(t);
  const service = await startService({
    env: { ...env, MODELS_DIR: await onlyTinySdxl(t), MAX_WAITING_JOBS: '0' },
    until: 'health',
  });
  t.teardown(() => service.cleanUp());
  const { page, problems, shot, violations, as, signIn, open } = await openBrowser(t, { timeoutMs: 300_000 });
  const fine = async (what: string) => t.same(await violations(), [], `axe finds nothing on ${what}`);
  const button = (name: string) => page.getByRole('button', { name, exact: true });
  const only = (state: string) => page.getByRole('radio', { name: state, exact: true }).check();
  const toTheEnd = () => page.evaluate('scrollTo(0, document.documentElement.scrollHeight)');
  await signIn(service.baseUrl, service.apiKey);

  await open('Queue');
  const queue = page.getByRole('region', { name: 'sdxl_queue' });
  await queue.getByRole('button', { name: 'Pause' }).click();
  await queue.getByText('Paused').waitFor();
  const pipeline = redis.pipeline();
  for (let index = 0; index < many; index += 1)
    pipeline.lpush(
      'sdxl_queue',
      JSON.stringify({
        id: randomUUID(),
        type: 'sdxl_image_fast',
        prompt: `a blue circle, number ${index}`,
        user_id,
        config: {},
      }),
    );
  await pipeline.exec();
  // What waits in a list of Redis is told as it was up to a second ago.
  await sleep(1100);

  const painted: number[] = [];
  for (let look = 0; look < looks; look += 1) {
    await page.reload({ waitUntil: 'commit' });
    painted.push(
      await page.evaluate<number>(`new Promise((resolve) => {
        const look = () => document.querySelectorAll('.row').length > 50
          ? requestAnimationFrame(() => resolve(performance.now())) : requestAnimationFrame(look);
        look();
      })`),
    );
  }
  const median = Math.round(painted.toSorted((a, b) => a - b)[Math.floor(looks / 2)] ?? Infinity);
  const each = painted.map(Math.round).join(', ');
  t.comment(`from the address to ${many} jobs: ${median} ms, the promise is 1000 ms (${each})`);
  t.ok(median <= paintLimitMs, `the first page of ${many} jobs stands after ${median} ms`);
  await shot('queue');
  await fine('the queue');

  await waitFor(
    async () => {
      await toTheEnd();
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
  await page.getByRole('dialog').waitFor({ state: 'detached' });

  // Under a filter, a job that no longer fits goes, though others are listed below it.
  const cursor = /\/jobs\?.*cursor=/;
  let goOn = () => {};
  const held = new Promise<void>((resolve) => (goOn = resolve));
  t.teardown(() => goOn());
  await page.route(cursor, async (route) => {
    await held;
    await route.continue();
  });
  const asked = page.waitForRequest(cursor);
  await only('Waiting');
  await page.locator('.row').nth(50).waitFor();
  const address = (await page.locator('.row a').first().getAttribute('href')) ?? '';
  const cancelled = await service.send('DELETE', `/jobs/${address.split('/').at(-1)}`);
  t.equal(cancelled.status, 200);
  await page.locator(`.row a[href="${address}"]`).waitFor({ state: 'detached' });
  // A page that was asked for under another filter comes too late.
  await toTheEnd();
  await asked;
  const states = page.locator('.row .badge');
  await only('Cancelled');
  await states.filter({ hasText: 'Waiting' }).first().waitFor({ state: 'detached' });
  const late = page.waitForResponse(cursor);
  goOn();
  await (await late).finished();
  await page.evaluate(
    'new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))',
  );
  t.same(await states.allTextContents(), ['Cancelled'], 'nothing is added to a list of something else');
  await page.unroute(cursor);

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
  await as();
  await button('Cancel all that wait').click();
  await button('Yes, cancel them').click();
  await page.getByText('999 jobs cancelled.').waitFor();
  t.same(problems, []);
});
