/** From the first login to a video, as somebody does it who has never seen the console. */
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

  // A reference from disk.
  await page.getByText('Reference', { exact: true }).click();
  await page.setInputFiles('input[type=file]', path.join(projectRoot(), 'docs/images/readme.png'));
  await page.getByAltText('The reference').waitFor();
  await button('Draw').click();
  await page.locator('.pictures:not([data-status=completed])').waitFor();
  await finished();

  await page.getByRole('link', { name: 'Gallery' }).click();
  await page.locator('.tiles img').nth(2).waitFor();
  await shot('gallery');
  await fine('the gallery');
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
