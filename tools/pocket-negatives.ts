/**
 * What a negative prompt does on the pocket SDXL: pictures of prompts that name no colour, drawn again with
 * their colour as negative prompt.
 *   node dist/tools/pocket-negatives.js [--models DIR] [--count 100] [--verbose]
 */
import { parseArgs } from 'node:util';
import { openPainter, pocketSdxl } from './pocket-check/draw.js';
import { measureNegative, openPrompts, type NegativeCase } from './pocket-check/negatives.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: pocketSdxl },
    count: { type: 'string', default: '100' },
    verbose: { type: 'boolean', default: false },
  },
});
const painter = await openPainter(values.models);
const cases: NegativeCase[] = [];
let [empty, seed] = [0, 9000];
for (const prompt of openPrompts(Number(values.count))) {
  seed += 1;
  const seen = await measureNegative(painter, prompt, seed);
  if (seen === null) empty += 1;
  else cases.push(seen);
  if (values.verbose) console.log(JSON.stringify(seen));
}
await painter.close();
const removed = cases.filter((seen) => seen.removed).length;
const kept = new Map<string, number>();
const all = new Map<string, number>();
for (const { colour, removed: gone } of cases) {
  all.set(colour, (all.get(colour) ?? 0) + 1);
  if (!gone) kept.set(colour, (kept.get(colour) ?? 0) + 1);
}
console.log(
  `${cases.length} pictures had a colour (${empty} showed no object); named as negative prompt it went from ${removed} of them (${((100 * removed) / cases.length).toFixed(1)} %)`,
);
console.log(
  [...all].map(([colour, count]) => `${colour} ${count - (kept.get(colour) ?? 0)}/${count}`).join(', '),
);
