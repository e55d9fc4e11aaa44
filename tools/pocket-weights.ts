/**
 * What prompt weights do on the pocket SDXL: held-out prompts with two objects, one of them at 1.4 and at
 * 0.7.
 *   node dist/tools/pocket-weights.js [--models DIR] [--count 100] [--route prompt|compel_weights]
 * [--verbose]
 */
import { parseArgs } from 'node:util';
import { openPainter, pocketSdxl } from './pocket-check/draw.js';
import { heldOutPictures } from './pocket-check/fixtures.js';
import { measureWeight, summarise, type WeightCase } from './pocket-check/weights.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: pocketSdxl },
    count: { type: 'string', default: '100' },
    route: { type: 'string', default: 'prompt' },
    verbose: { type: 'boolean', default: false },
  },
});
const painter = await openPainter(values.models);
const cases: WeightCase[] = [];
for (const [index, item] of heldOutPictures('two').slice(0, Number(values.count)).entries()) {
  const seen = await measureWeight(
    painter,
    item,
    index,
    values.route === 'compel_weights' ? 'compel_weights' : 'prompt',
  );
  cases.push(seen);
  if (values.verbose) console.log(JSON.stringify(seen));
}
await painter.close();
const found = summarise(cases);
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
console.log(`${cases.length} prompts, weights in ${values.route}`);
console.log(
  `1.4 enlarges the object in ${percent(found.enlarged)} (mean area × ${found.ratioUp.toFixed(2)}), the other's area changes by ${percent(found.otherUp)}`,
);
console.log(
  `0.7 shrinks the object in ${percent(found.shrunk)} (mean area × ${found.ratioDown.toFixed(2)}), the other's area changes by ${percent(found.otherDown)}`,
);
