/**
 * Scores the pocket SDXL: draws the held-out prompts through the engine's own code and lets the pixel check
 * judge.
 *   node dist/tools/pocket-score.js [--set held-out|structures|unseen] [--models DIR] [--steps 15] [--guidance
 * 6] [--scheduler euler] [--every N] [--keep DIR]
 * `structures`: ways to write that no training knows; `unseen`: pairs of colour and shape that none knows, so
 * written.
 */
import { copyFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { sdxlSchedulerNames } from '../src/inference/generation.js';
import { openPainter, pocketSdxl } from './pocket-check/draw.js';
import { heldOutPictures } from './pocket-check/fixtures.js';
import { judge } from './pocket-check/judge.js';
import { picturePrompts, unseenPairPrompts } from './pocket-check/structures/sets.js';

const { values } = parseArgs({
  options: {
    set: { type: 'string', default: 'held-out' },
    models: { type: 'string', default: pocketSdxl },
    steps: { type: 'string', default: '15' },
    guidance: { type: 'string', default: '6' },
    scheduler: { type: 'string', default: 'euler' },
    every: { type: 'string', default: '1' },
    keep: { type: 'string' },
  },
});
const scheduler = sdxlSchedulerNames.find((name) => name === values.scheduler) ?? 'dpmpp_2m_karras';
const painter = await openPainter(values.models, {
  steps: Number(values.steps),
  guidanceScale: Number(values.guidance),
  scheduler,
});
const scores = new Map<string, { right: number; all: number }>();
const startedAt = performance.now();
let drawn = 0;
const sets = { 'held-out': () => heldOutPictures(), structures: picturePrompts, unseen: unseenPairPrompts };
const readSet = sets[values.set as keyof typeof sets] as (typeof sets)[keyof typeof sets] | undefined;
if (readSet === undefined) throw new Error(`--set is one of ${Object.keys(sets).join(', ')}`);
for (const [index, item] of (await readSet()).entries()) {
  if (index % Number(values.every) !== 0) continue;
  const picture = await painter.draw({ prompt: item.prompt, seed: 1000 + index });
  const wrong = judge(item, picture);
  drawn += 1;
  const score = scores.get(item.kind) ?? { right: 0, all: 0 };
  scores.set(item.kind, { right: score.right + (wrong.length === 0 ? 1 : 0), all: score.all + 1 });
  if (wrong.length === 0) continue;
  console.log(`${item.kind}: ${item.prompt}: ${wrong.join(', ')}`);
  if (values.keep !== undefined) {
    await mkdir(values.keep, { recursive: true });
    await copyFile(picture.file, path.join(values.keep, `${index}.png`));
  }
}
for (const [kind, { right, all }] of scores)
  console.log(`${kind.padEnd(12)} ${right}/${all}  ${((100 * right) / all).toFixed(1)} %`);
console.log(`${drawn} pictures, ${((performance.now() - startedAt) / drawn / 1000).toFixed(2)} s each`);
await painter.close();
