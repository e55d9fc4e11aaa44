/**
 * `npm run bench [-- name …]`: runs the benchmarks (all, or those named), one after another, each in a
 * process of its own. Each prints a Markdown table for docs/performance.md and ends with a non-zero code when
 * it misses its gate.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { projectRoot } from '../src/lib/project.js';

const folder = path.join(projectRoot(), 'dist/bench');
/** A benchmark is a file of this folder named `*.bench.ts`; what lies beside it supports it. */
const all = readdirSync(folder)
  .filter((file) => file.endsWith('.bench.js'))
  .map((file) => file.replace('.bench.js', ''))
  .sort();
const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  process.stderr.write(`Unknown: ${unknown.join(', ')}. There are: ${all.join(', ')}\n`);
  process.exit(2);
}

process.stdout.write(
  `Node ${process.version}, ${os.availableParallelism()} cores (${os.cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.platform()} ${os.arch()}\n`,
);
const missed = (wanted.length > 0 ? wanted : all).filter((name) => {
  process.stdout.write(`\n## ${name}\n\n`);
  return (
    spawnSync(process.execPath, [path.join(folder, `${name}.bench.js`)], {
      cwd: projectRoot(),
      stdio: ['ignore', 'inherit', 'inherit'],
    }).status !== 0
  );
});
if (missed.length > 0) process.stdout.write(`\nGate missed: ${missed.join(', ')}\n`);
process.exitCode = missed.length > 0 ? 1 : 0;
