/**
 * What the shipped SDXL does with weights, negative prompts and references, judged from pixels;
 * tools/pocket-*.ts measure the same on 100 each.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { openPainter } from '../../../tools/pocket-check/draw.js';
import { heldOutPictures } from '../../../tools/pocket-check/fixtures.js';
import { measureNegative, openPrompts } from '../../../tools/pocket-check/negatives.js';
import { measureReferences, referencePairs } from '../../../tools/pocket-check/references.js';
import { measureWeight, summarise, type WeightCase } from '../../../tools/pocket-check/weights.js';

t.setTimeout(600_000);

const painter = await openPainter();
t.teardown(() => painter.close());

for (const [route, count] of [
  ['prompt', 6],
  ['compel_weights', 2],
] as const) {
  t.test(`a weight in ${route} changes its object's area and no other`, async (t) => {
    const cases: WeightCase[] = [];
    for (const [index, item] of heldOutPictures('two').slice(0, count).entries())
      cases.push(await measureWeight(painter, item, index, route));
    const { enlarged, shrunk, otherUp, otherDown } = summarise(cases);
    t.ok(enlarged >= 0.9, `1.4 enlarges it in ${enlarged * 100} %`);
    t.ok(shrunk >= 0.9, `0.7 shrinks it in ${shrunk * 100} %`);
    t.ok(
      Math.abs(otherUp) <= 0.2 && Math.abs(otherDown) <= 0.2,
      `the other's area changes by ${otherUp.toFixed(3)} and ${otherDown.toFixed(3)}`,
    );
  });
}

t.test('a negative prompt takes its colour out of the picture', async (t) => {
  const seen = [];
  for (const [i, prompt] of openPrompts(6).entries())
    seen.push(await measureNegative(painter, prompt, 9001 + i));
  const had = seen.filter((each) => each !== null);
  t.ok(had.length >= 5, `${had.length} pictures had a colour`);
  t.ok(had.filter(({ removed }) => removed).length >= 0.8 * had.length, JSON.stringify(had));
});

t.test(
  'composition, style and character each keep their own thing, more of it with more strength',
  async (t) => {
    t.ok(painter.loaded.model.features.includes('ip_adapter'), 'through image tokens');
    const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-references-'));
    t.teardown(() => rm(folder, { recursive: true, force: true }));
    for (const type of ['composition', 'style', 'character'] as const) {
      const [none, half, full] = await measureReferences(
        painter,
        referencePairs(type, 5),
        [0, 0.5, 1],
        folder,
      );
      const told = JSON.stringify([none, half, full]);
      t.ok((full?.kept ?? 0) >= 0.6 && (full?.kept ?? 0) >= 2 * (none?.kept ?? 1), `${type}: kept ${told}`);
      t.ok(
        (none?.distance ?? 0) > (half?.distance ?? Infinity) &&
          (half?.distance ?? 0) > (full?.distance ?? Infinity),
        `${type}: nearer ${told}`,
      );
    }
  },
);
