/**
 * `npm test [-- filter …]`: runs every compiled test (or those whose path contains a filter) and ends with
 * the line `N passed, N failed`, counting test points. Installs the programs these tests need first, where it
 * may. With CI=true a skipped test point counts as failed. Exit code 0 only when nothing failed.
 *
 * Run from its source (`npm run test:file`), it runs tests from theirs, without a build. `--fast` leaves out
 * tests that start processes or servers, or load models; `--coverage` ends with what of src they ran.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { ownFile, ownLoader } from '../src/lib/processes.js';
import { projectRoot } from '../src/lib/project.js';
import { reportTap } from './test-run/report.js';
import { runFiles } from './test-run/run-files.js';
import { commandsNamedIn, installMissing } from './test-run/system-packages.js';
import { findTests, isFast, withImports } from './test-run/test-files.js';

const root = projectRoot();
const say = (line: string) => process.stdout.write(`${line}\n`);
const isCi = process.env['CI'] === 'true';
const filters = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const fast = process.argv.includes('--fast');
const coverageFolder = process.argv.includes('--coverage')
  ? mkdtempSync(path.join(tmpdir(), 'coverage-'))
  : null;

const tests = findTests(root).filter(
  (file) =>
    (filters.length === 0 || filters.some((filter) => file.includes(filter))) &&
    (!fast || isFast(path.join(root, file))),
);
if (tests.length === 0) {
  say('No test matches.');
  say('0 passed, 0 failed');
  process.exit(1);
}
const sources = new Set(tests.flatMap((file) => [...withImports(path.join(root, file))]));
for (const [command, reason] of installMissing(commandsNamedIn([...sources]), say))
  say(`!! ${command}: ${reason}. The tests that need it are skipped.`);

const stream = runFiles(
  tests.map((file) => path.relative(root, ownFile(file.replace(/\.ts$/, '')))),
  {
    cwd: root,
    nodeArgs: ['--enable-source-maps', ...ownLoader],
    env: coverageFolder === null ? {} : { NODE_V8_COVERAGE: coverageFolder },
    jobs: Math.min(2, availableParallelism()),
  },
);
const { passed, failed, skipped } = await reportTap(stream, say);
if (coverageFolder !== null) reportCoverage(coverageFolder);
if (skipped.length > 0) {
  const weight = isCi ? ', which counts as failed in CI' : '';
  say(`\n!! SKIPPED: ${skipped.length} of the tests did not run${weight}:`);
  for (const { name, reason } of skipped) say(`!!   ${name}: ${reason}`);
}
const failures = failed + (isCi ? skipped.length : 0);
say(`\n${passed} passed, ${failures} failed`);
process.exitCode = failures === 0 ? 0 : 1;

function reportCoverage(folder: string): void {
  const c8 = ['node_modules/.bin/c8', 'report', '--temp-directory', folder, '--include', 'dist/src/**'];
  spawnSync(process.execPath, c8, { cwd: root, stdio: 'inherit' });
  rmSync(folder, { recursive: true });
}
