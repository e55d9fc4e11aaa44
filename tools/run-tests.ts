/**
 * `npm test [-- filter …]`: runs every compiled test (or those whose path contains a filter) and ends with
 * the line `N passed, N failed`, counting test points. Installs the programs tests need first, where it may.
 * With CI=true a skipped test point counts as failed. Exit code 0 only when nothing failed.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../src/lib/project.js';
import { reportTap } from './test-run/report.js';
import { commandsNamedIn, installMissing } from './test-run/system-packages.js';

const root = projectRoot();
const say = (line: string) => process.stdout.write(`${line}\n`);
const isCi = process.env['CI'] === 'true';
/** Folders whose tests start whole processes: begun first, so that the short ones fill the gaps. */
const slowFolders = ['e2e', 'contract-cases', 'chaos'];

const files = findTests(process.argv.slice(2));
if (files.length === 0) {
  say('No test matches.');
  say('0 passed, 0 failed');
  process.exit(1);
}
const missing = installMissing(
  commandsNamedIn(compiledFiles().map((file) => path.join(root, 'dist/test', file))),
  say,
);
for (const [command, reason] of missing) say(`!! ${command}: ${reason}. The tests that need it are skipped.`);

const tap = spawn(process.execPath, ['node_modules/.bin/tap', 'run', '--reporter=tap', ...files], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
const exitCode = new Promise<number>((resolve) => tap.on('close', (code) => resolve(code ?? 1)));
const summary = await reportTap(tap.stdout, say);
let failed = summary.failed;
if ((await exitCode) !== 0 && failed === 0) {
  say('The test run itself failed, though every test point passed.');
  failed = 1;
}
if (summary.skipped.length > 0) {
  say(
    `\n!! SKIPPED: ${summary.skipped.length} of the tests did not run${isCi ? ', which counts as failed in CI' : ''}:`,
  );
  for (const skip of summary.skipped) say(`!!   ${skip.name}: ${skip.reason}`);
  if (isCi) failed += summary.skipped.length;
}
say(`\n${summary.passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/**
 * Everything compiled under `test`, helpers included, whose source still exists: an earlier build leaves
 * files behind.
 */
function compiledFiles(): string[] {
  return readdirSync(path.join(root, 'dist/test'), { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.js') && existsSync(path.join(root, 'test', file.replace(/\.js$/, '.ts'))),
  );
}

/** Tests in running order. */
function findTests(filters: readonly string[]): string[] {
  const isSlow = (file: string) => slowFolders.some((folder) => file.includes(`/test/${folder}/`));
  return compiledFiles()
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => `dist/test/${file}`)
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)) || a.localeCompare(b));
}
