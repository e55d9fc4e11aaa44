/** A page of another origin, in a real browser: prompt, reference, job, previews, picture, video. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { chromium } from 'playwright-core';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { compileClient } from '../helpers/compiled-client.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(600_000);
const skip = requireCommand('chromium') || requireCommand('ffmpeg');
const user_id = '0a0a0a0a-0000-4000-8000-000000000001';

t.test('a page of another origin does all of it', { skip }, async (t) => {
  const folder = t.testdir({});
  await compileClient(path.join(folder, 'client'));
  const pages = createServer((request, response) => {
    const name = (request.url ?? '').split('?')[0] ?? '';
    const file = name.startsWith('/client/')
      ? path.join(folder, name)
      : path.join(projectRoot(), 'examples/page/index.html');
    readFile(file).then(
      (bytes) =>
        response
          .writeHead(200, { 'content-type': name.endsWith('.js') ? 'text/javascript' : 'text/html' })
          .end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve));
  t.teardown(() => pages.close());
  const origin = `http://localhost:${(pages.address() as AddressInfo).port}`;
  const service = await startService({
    env: { CORS_ORIGINS: origin, PREVIEW_EVERY_STEPS: '2' },
    readyTimeoutMs: 300_000,
  });
  t.teardown(() => service.cleanUp());
  const made = await service.send('POST', '/tokens', { user_id, scopes: ['enhance', 'jobs'] });
  const { token } = (await made.json()) as { token: string };

  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  t.teardown(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(300_000);
  const problems: string[] = [];
  page.on('pageerror', ({ message }) => problems.push(message));
  await page.goto(`${origin}/#url=${encodeURIComponent(service.baseUrl)}&token=${token}`);
  const said = (text: string) =>
    page.waitForFunction(`document.getElementById('status').textContent === '${text}'`);

  await page.click('button[name=enhance]');
  await said('enhanced');
  t.not(await page.inputValue('textarea'), 'a red circle above a blue square', 'a longer prompt');
  await page.fill('textarea', 'a red circle above a blue square');

  const reference = path.join(projectRoot(), 'docs/images/readme.png');
  await page.setInputFiles('input[name=reference]', reference);
  await page.click('text=Draw');
  await page.waitForFunction(`document.getElementById('preview').naturalWidth > 0`);
  await said('completed');
  await page.waitForFunction(`document.getElementById('picture').naturalWidth > 0`);

  await page.setInputFiles('input[name=reference]', []);
  await page.selectOption('select', 'video_fast');
  await page.click('text=Draw');
  await said('completed');
  await page.waitForFunction(`document.getElementById('video').readyState >= 2`);
  const seen = await page.evaluate(`(async () => {
    const video = document.getElementById('video');
    await video.play();
    await new Promise((resolve) => video.addEventListener('timeupdate', resolve, { once: true }));
    video.pause();
    const sought = new Promise((resolve) => video.addEventListener('seeked', resolve, { once: true }));
    video.currentTime = video.duration / 2;
    await sought;
    return { width: video.videoWidth, duration: video.duration, at: video.currentTime };
  })()`);
  const { width, duration, at } = seen as { width: number; duration: number; at: number };
  t.ok(width > 0 && duration > 1, `plays: ${JSON.stringify(seen)}`);
  t.ok(Math.abs(at - duration / 2) < 0.2, 'seeks');
  t.same(problems, []);
});
