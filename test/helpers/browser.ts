import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium, type Page } from 'playwright-core';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';

/** Where screenshots are kept, to be looked at after a run. */
const pictures = process.env['SCREENSHOTS_DIR'] ?? path.join(projectRoot(), 'dist', 'screenshots');
const axe = () => readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export type Browser = Awaited<ReturnType<typeof openBrowser>>;

/**
 * A real Chromium that reaches this machine alone. What a page does wrong on its way (an error nobody handles, a
 * violation of its policy, a request to elsewhere) is collected in `problems`.
 */
export async function openBrowser(t: Test, { timeoutMs = 120_000 } = {}) {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1'],
  });
  t.teardown(() => browser.close());
  const context = await browser.newContext({ viewport: { width: 1280, height: 820 }, colorScheme: 'light' });
  const problems: string[] = [];
  await context.addInitScript(`addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
    console.error('policy: ' + violatedDirective + ' ' + blockedURI))`);
  const page = await context.newPage();
  page.setDefaultTimeout(timeoutMs);
  page.on('pageerror', ({ message }) => problems.push(message));
  page.on('console', (message) => {
    if (/policy|Refused|Trusted/.test(message.text())) problems.push(message.text());
  });
  page.on('request', (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') problems.push(`it asked ${request.url()}`);
  });

  return {
    page,
    problems,
    async shot(name: string): Promise<void> {
      mkdirSync(pictures, { recursive: true });
      await settled(page);
      await page.screenshot({ path: path.join(pictures, `${name}.png`) });
    },
    /** What axe finds wrong with the page as it stands. */
    async violations(): Promise<string[]> {
      await settled(page);
      await page.evaluate(axe());
      return page.evaluate(`axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) =>
          id + ': ' + html.slice(0, 200) + ' ' + failureSummary)))`);
    },
    /** As a phone, in the dark, or as it was. */
    async as({ width = 1280, height = 820, dark = false } = {}): Promise<void> {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light' });
    },
    /** By the link in the navigation. */
    async open(screen: string): Promise<void> {
      const link = page.getByRole('navigation').getByRole('link', { name: new RegExp(`^${screen}`) });
      await link.click();
      await page.getByRole('heading', { name: screen, exact: true }).waitFor();
    },
    async signIn(baseUrl: string, key: string): Promise<void> {
      await page.goto(`${baseUrl}/`);
      await page.getByLabel('Key').fill(key);
      await page.getByRole('button', { name: 'Sign in' }).click();
      await page.getByRole('heading', { name: 'Draw' }).waitFor();
    },
  };
}

/** What moves once (colours of a button, the bar of progress) stands at its end: outside the window it never would. */
async function settled(page: Page): Promise<void> {
  await page.evaluate(`document.getAnimations()
    .filter((one) => one.effect.getComputedTiming().endTime !== Infinity).forEach((one) => one.finish())`);
}

export const phone = { width: 390, height: 844 };
