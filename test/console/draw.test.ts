/** From the first login to a video, as somebody does it who has never seen the console. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { openBrowser, phone } from '../helpers/browser.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(900_000);
const skip = requireCommand('chromium') || requireCommand('ffmpeg');

t.test('login, drawing, settings, another seed, a video from the picture', { skip }, async (t) => {
  const service = await startService({ env: { PREVIEW_EVERY_STEPS: '1' }, readyTimeoutMs: 300_000 });
  t.teardown(() => service.cleanUp());
  const { page, problems, shot, violations, as, signIn } = await openBrowser(t, { timeoutMs: 300_000 });
  const fine = async (what: string) => t.same(await violations(), [], `axe finds nothing on ${what}`);
  const button = (name: string) => page.getByRole('button', { name, exact: true });
  const prompt = page.getByLabel('Prompt', { exact: true });
  const finished = () => page.locator('.pictures[data-status=completed]').waitFor();
  const seed = async () =>
    page.locator('.settings div', { hasText: /^Seed/ }).locator('dd').first().textContent();

  await page.goto(service.baseUrl);
  await shot('login');
  await fine('the login');
  await page.getByLabel('Key').fill('not-the-key');
  await button('Sign in').click();
  t.match(await page.getByRole('alert').textContent(), /Nobody has this key/, 'a wrong key is said');
  await fine('a refused login');
  await signIn(service.baseUrl, service.apiKey);
  t.equal(await page.evaluate('document.cookie'), '', 'no script sees the cookie');

  await prompt.fill('a red circle');
  await button('Enhance').click();
  await button('Undo').waitFor();
  t.not(await prompt.inputValue(), 'a red circle', 'enhanced in the field');
  await button('Undo').click();
  t.equal(await prompt.inputValue(), 'a red circle');

  await prompt.fill('a red circle above a blue square');
  await page.getByText('Weights', { exact: true }).click();
  await page.getByTitle('Give "red" a weight').click();
  await page.getByLabel('red', { exact: true }).fill('1.2');
  t.equal(await prompt.inputValue(), 'a (red:1.2) circle above a blue square');
  await page.getByLabel('Seed', { exact: true }).fill('7');
  await button('Draw').click();
  await page.locator('.preview').waitFor();
  await shot('draw-preview');
  await fine('drawing');
  await finished();
  const drawn = await page
    .locator('.cell img')
    .evaluate((image) => (image as unknown as { naturalWidth: number }).naturalWidth);
  t.ok(drawn > 0, 'the picture is there');
  await page.locator('.recent li').first().waitFor();
  await shot('draw');
  await fine('a drawn picture');

  await page.getByRole('link', { name: 'All settings', exact: true }).click();
  await page.locator('.settings').waitFor();
  t.equal(await seed(), '7');
  await shot('settings');
  await fine('the settings');
  await button('Vary the seed').click();
  await page.locator('.pictures:not([data-status=completed])').waitFor();
  await finished();
  await page.getByRole('link', { name: 'All settings', exact: true }).click();
  await page.locator('.settings').waitFor();
  t.not(await seed(), '7', 'again with another seed');
  await button('Again').click();
  t.equal(await prompt.inputValue(), 'a (red:1.2) circle above a blue square');

  // A reference: chosen from disk, pasted from the clipboard, dropped from another window.
  const picture = path.join(projectRoot(), 'docs/images/readme.png');
  const uploaded = async (act: () => Promise<unknown>) => {
    const answer = page.waitForResponse((one) => one.url().endsWith('/references'));
    await act();
    t.equal((await answer).status(), 201, 'the service has it');
    await page.getByAltText('The reference').waitFor();
    return ((await (await answer).json()) as { reference: string }).reference;
  };
  await page.getByText('Reference', { exact: true }).click();
  await uploaded(() => page.setInputFiles('input[type=file]', picture));
  await button('Remove the reference').click();
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  const base64 = (await readFile(picture)).toString('base64');
  await page.evaluate(`(async () => {
    const bytes = Uint8Array.from(atob('${base64}'), (letter) => letter.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': new Blob([bytes], { type: 'image/png' }) })]);
  })()`);
  await prompt.focus();
  await uploaded(() => page.keyboard.press('Control+V'));
  await button('Remove the reference').click();
  const field = page.locator('.drop');
  if (!(await field.isVisible())) await page.getByText('Reference', { exact: true }).click();
  await field.scrollIntoViewIfNeeded();
  const { x, y, width, height } = (await field.boundingBox()) ?? { x: 0, y: 0, width: 0, height: 0 };
  const devtools = await page.context().newCDPSession(page);
  const dropped = await uploaded(async () => {
    for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
      await devtools.send('Input.dispatchDragEvent', {
        type,
        x: x + width / 2,
        y: y + height / 2,
        data: { items: [], files: [picture], dragOperationsMask: 1 },
      });
  });
  await button('Draw').click();
  await page.locator('.pictures:not([data-status=completed])').waitFor();
  await finished();

  const { jobs } = (await service.getJson('/jobs?limit=1')) as { jobs: Array<{ id: string }> };
  const last = `/jobs/${jobs[0]?.id}`;
  t.match(await service.getJson(last), { request: { metadata: { reference_image_url: dropped } } });

  await page.getByRole('link', { name: 'Gallery' }).click();
  await page.locator('.tiles img').nth(2).waitFor();
  await shot('gallery');
  await fine('the gallery');

  // The newest is saved, then deleted for good.
  const tiles = page.locator('.tiles li');
  const before = await tiles.count();
  await tiles.first().locator('a').click();
  const download = page.waitForEvent('download');
  await button('Download').click();
  t.match((await download).suggestedFilename(), /^a-red-1-2-circle.*-0\.png$/, 'named by its prompt');
  const { assets } = (await service.getJson(last)) as { assets: [string] };
  const stored = Buffer.from(await (await service.get(assets[0])).arrayBuffer());
  t.ok(stored.equals(await readFile(await (await download).path())), 'the file itself');
  await button('Delete').click();
  await button('Delete its files for good').click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  t.equal(await tiles.count(), before - 1, 'it is gone from the gallery');
  t.match(await service.getJson(last), { status: 'completed', assets: [] });
  t.equal((await service.get(assets[0])).status, 404, 'and from the storage');
  for (const dark of [false, true]) {
    await as({ ...phone, dark });
    await shot(`gallery-phone${dark ? '-dark' : ''}`);
    await fine('the gallery on a phone');
  }
  await as({ dark: true });
  await fine('the gallery in the dark');
  await page.getByRole('link', { name: 'Draw' }).click();
  await shot('draw-dark');
  await fine('drawing in the dark');
  await as(phone);
  await shot('draw-phone');
  // The examples stand in one line that scrolls by itself.
  const wide = await page.evaluate<string[]>(`[...document.querySelectorAll('body *:not(.world .chip)')]
    .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 120))`);
  t.same(wide, [], 'nothing is wider than the phone');
  await as();

  await page.getByRole('link', { name: 'Gallery' }).click();
  await page.locator('.tiles a').last().click();
  await button('As first frame').click();
  await page.getByAltText('The reference').waitFor();
  await prompt.fill('a red circle moves left');
  await page.getByLabel('Length').selectOption('17');
  await button('Draw').click();
  await page.locator('.pictures:not([data-status=completed])').waitFor();
  await finished();
  const video = page.locator('.stage video');
  await video.waitFor();
  await page.waitForFunction(`document.querySelector('.stage video').readyState >= 2`);
  const seen = await page.evaluate<{ duration: number; at: number }>(`(async () => {
    const video = document.querySelector('.stage video');
    await video.play();
    await new Promise((resolve) => video.addEventListener('timeupdate', resolve, { once: true }));
    video.pause();
    const sought = new Promise((resolve) => video.addEventListener('seeked', resolve, { once: true }));
    video.currentTime = video.duration / 2;
    await sought;
    return { duration: video.duration, at: video.currentTime };
  })()`);
  t.ok(seen.duration > 0.9 && Math.abs(seen.at - seen.duration / 2) < 0.2, 'the video plays and seeks');
  await shot('video');
  await fine('a video');

  await button('Sign out').click();
  await button('Sign in').waitFor();
  await page.reload();
  await button('Sign in').waitFor();
  const made = await service.send('POST', '/session/links');
  const { link } = (await made.json()) as { link: string };
  await page.goto(service.baseUrl + link);
  await page.getByRole('heading', { name: 'Draw' }).waitFor();
  t.notMatch(page.url(), /login/, 'the code is gone from the address');
  await button('Sign out').click();
  await button('Sign in').waitFor();
  await page.goto('about:blank');
  await page.goto(service.baseUrl + link);
  await page.getByText('This link was used before').waitFor();

  // The contract for people: no logo and no address of others.
  await page.goto(`${service.baseUrl}/docs`);
  await page.getByRole('heading', { name: /^OurVidz worker/ }).waitFor();
  t.equal(await page.locator('.topbar').count(), 0);
  t.match(await page.locator('link[rel=icon]').getAttribute('href'), /icon-.*\.svg$/);
  await shot('docs');
  t.same(problems, []);
});
