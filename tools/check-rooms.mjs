/**
 * Holds the layout to its limits: `node tools/check-rooms.mjs`. Rooms are the entries of src/services; an arrow says
 * that files of one import from another; the order below says which way is down. `--arrows` lists them.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** From the top: a room imports only from those that stand after it. */
const order = [
  'index.ts',
  'operations',
  'jobs',
  'outbound',
  'enhancement',
  'engines',
  'models',
  'card',
  'references',
  'storage',
  'queue',
  'catalogue.ts',
];
const limits = { rooms: 13, arrows: 45, files: 220, graphFiles: 30, linesOfAFile: 260, columns: 120 };
/** The builder of models' graphs is a compiler of its own, with a limit of its own. */
const ofTheBuilder = /^src.inference.(graphs|checkpoint)./;
const generated = 'src/contract/generated.ts';

const files = readdirSync('src', { recursive: true })
  .map((name) => path.join('src', name))
  .filter((name) => name.endsWith('.ts') && name !== generated);
const problems = [];
const rooms = new Set(readdirSync('src/services'));
const arrows = new Map();

for (const file of files) {
  const text = readFileSync(file, 'utf8');
  const lines = text.trimEnd().split('\n');
  if (lines.length > limits.linesOfAFile)
    problems.push(`${file} has ${lines.length} lines, more than ${limits.linesOfAFile}`);
  lines.forEach((line, index) => {
    if (line.length > limits.columns)
      problems.push(`${file}:${index + 1} has ${line.length} columns, more than ${limits.columns}`);
  });
  const from = roomOf(file);
  if (from === null) continue;
  for (const [, specifier] of text.matchAll(/\bfrom '(\.[^']+)'/g)) {
    const to = roomOf(path.join(path.dirname(file), specifier).replace(/\.js$/, '.ts'));
    if (to === null || to === from) continue;
    const arrow = `${from} → ${to}`;
    arrows.set(arrow, [...(arrows.get(arrow) ?? []), file]);
  }
}

for (const room of rooms)
  if (!order.includes(room)) problems.push(`src/services/${room} has no place in the order of rooms`);
for (const [arrow, importers] of arrows) {
  const [from, to] = arrow.split(' → ').map((room) => order.indexOf(room));
  if (from >= to) problems.push(`${arrow} points upward, in ${importers.join(', ')}`);
}
const graphFiles = files.filter((file) => ofTheBuilder.test(file)).length;
const counts = { rooms: rooms.size, arrows: arrows.size, files: files.length + 1 - graphFiles, graphFiles };
for (const [what, count] of Object.entries(counts))
  if (count > limits[what]) problems.push(`${count} ${what}, more than ${limits[what]}`);

if (process.argv.includes('--arrows'))
  for (const [arrow, importers] of [...arrows].sort()) console.log(`${arrow} (${importers.length})`);
for (const problem of problems) console.error(problem);
console.log(
  `src/services: ${counts.rooms} rooms, ${counts.arrows} arrows; src: ${counts.files} TypeScript files, ${graphFiles} of the graph builder`,
);
process.exitCode = problems.length === 0 ? 0 : 1;

function roomOf(file) {
  const [src, services, room] = file.split(path.sep);
  return src === 'src' && services === 'services' ? room : null;
}
