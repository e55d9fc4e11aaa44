import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { openSdxlModel } from '../../../src/inference/sdxl/model.js';
import { createTextCache } from '../../../src/inference/sdxl/text-cache.js';
import { conditionText } from '../../../src/inference/sdxl/conditioning.js';
import { projectRoot } from '../../../src/lib/project.js';

const folder = path.join(projectRoot(), 'test/parity/models/sdxl-tiny');
const open = (longPrompts: 'truncate' | 'chunk') =>
  openSdxlModel(folder, { device: 'cpu', threads: 1, longPrompts });

interface RecordedCase {
  name: string;
  prompt: string;
  shape: [number, number];
  every_fifth_row: number[][];
}

void t.test('chunked prompts are split and encoded as compel splits and encodes them', async (t) => {
  const { cases } = JSON.parse(
    readFileSync(path.join(projectRoot(), 'test/fixtures/compel-long-prompts.json'), 'utf8'),
  ) as { cases: RecordedCase[] };
  const model = await open('chunk');
  t.teardown(() => model.release());
  for (const {
    name,
    prompt,
    shape: [tokens, width],
    every_fifth_row: rows,
  } of cases) {
    const ours = await conditionText(model, prompt, { parseWeights: true, syntax: 'compel' });
    t.equal(ours.tokens, tokens, `${name}: tokens`);
    const worst = Math.max(
      ...rows.flatMap((row, i) =>
        row.map((value, k) => Math.abs(value - (ours.embeds[i * 5 * width + k] as number))),
      ),
    );
    t.ok(worst <= 1e-4, `${name}: largest difference ${worst.toExponential(1)}`);
  }
});

void t.test(
  'a 200-token prompt is cut to one window by default, and given as many as it needs when chunked; the negative side follows',
  async (t) => {
    const prompt = Array.from({ length: 200 }, (_, i) => ['red', 'circle', 'blue', 'square'][i % 4]).join(
      ' ',
    );
    const params = {
      prompt,
      negativePrompt: 'blurry',
      weights: [{ text: 'glowing', weight: 1.3 }],
      parseWeights: true,
    };
    for (const [longPrompts, windows] of [
      ['truncate', 1],
      ['chunk', 3],
    ] as const) {
      const model = await open(longPrompts);
      t.teardown(() => model.release());
      const { positive, negative, combined } = await createTextCache(model).encode(params);
      t.equal(positive.tokens, 77 * windows, longPrompts);
      t.equal(negative.tokens, positive.tokens, 'positive and negative are of one length');
      t.equal(combined.truncated, longPrompts === 'truncate');
      t.ok(combined.tokenCount > 200);
      t.same(
        combined.dropped.map(({ text }) => text),
        longPrompts === 'truncate' ? ['glowing'] : [],
        'a weight that does not fit is dropped, the prompt is not',
      );
    }
  },
);
