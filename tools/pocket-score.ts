/**
 * Scores the pocket SDXL: draws the held-out prompts through the engine's own code and lets the pixel check
 * judge.
 *   node dist/tools/pocket-score.js [--models DIR] [--steps 15] [--guidance 6] [--scheduler euler] [--every
 * N] [--keep DIR]
 */
import { copyFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { sdxlSchedulerNames } from '../src/inference/generation.js';
import { heldOut, openPainter, pocketSdxl } from './pocket-check/draw.js';
import { judge } from './pocket-check/judge.js';

const { values } = parseArgs({
  options: {
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
for (const [index, item] of (await heldOut()).entries()) {
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
