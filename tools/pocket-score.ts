/**
 * Scores the pocket SDXL: draws the held-out prompts through the engine's own code and lets the pixel check judge.
 *   node dist/tools/pocket-score.js [--models DIR] [--steps 15] [--guidance 6] [--scheduler euler] [--every N] [--keep DIR]
 */
import { mkdir, mkdtemp, readFile, rename } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import type { RequestContext } from '../src/inference/engine.js';
import { sdxlSchedulerNames } from '../src/inference/engine-protocol.js';
import { createSdxlEngine } from '../src/inference/sdxl/engine.js';
import { projectRoot } from '../src/project-root.js';
import { judge, type HeldOut } from './pocket-check/judge.js';

const { values } = parseArgs({ options: { models: { type: 'string', default: path.join(projectRoot(), 'models/pocket/sdxl') }, steps: { type: 'string', default: '15' }, guidance: { type: 'string', default: '6' }, scheduler: { type: 'string', default: 'euler' }, every: { type: 'string', default: '1' }, keep: { type: 'string' } } });
const items = JSON.parse(await readFile(path.join(projectRoot(), 'test/fixtures/pocket-sdxl.json'), 'utf8')) as HeldOut[];
const engine = createSdxlEngine();
await engine.load({ modelDir: values.models, device: 'cpu', threads: 0 }, () => {});
const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-score-'));
const context: RequestContext = { id: 'score', signal: new AbortController().signal, emit() {}, compute: (work) => work() };
const scores = new Map<string, { right: number; all: number }>();
const startedAt = performance.now();
let drawn = 0;
for (const [index, item] of items.entries()) {
  if (index % Number(values.every) !== 0) continue;
  const result = await engine.methods['sdxl.generate']?.({
    jobId: 'score', outputDir: folder, prompt: item.prompt, negativePrompt: null, parseWeights: true, weights: [], steps: Number(values.steps), guidanceScale: Number(values.guidance),
    scheduler: sdxlSchedulerNames.find((name) => name === values.scheduler) ?? 'dpmpp_2m_karras', width: 128, height: 128, seed: 1000 + index, numImages: 1, format: 'png', previewEverySteps: 0, parametersText: '', explain: false,
  }, context);
  const file = result?.files[0]?.path ?? '';
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
  const wrong = judge(item, { data, width: info.width, height: info.height });
  drawn += 1;
  const score = scores.get(item.kind) ?? { right: 0, all: 0 };
  scores.set(item.kind, { right: score.right + (wrong.length === 0 ? 1 : 0), all: score.all + 1 });
  if (wrong.length === 0) continue;
  console.log(`${item.kind}: ${item.prompt}: ${wrong.join(', ')}`);
  if (values.keep !== undefined) {
    await mkdir(values.keep, { recursive: true });
    await rename(file, path.join(values.keep, `${index}.png`));
  }
}
for (const [kind, { right, all }] of scores) console.log(`${kind.padEnd(12)} ${right}/${all}  ${((100 * right) / all).toFixed(1)} %`);
console.log(`${drawn} pictures, ${((performance.now() - startedAt) / drawn / 1000).toFixed(2)} s each`);
await engine.unload();
