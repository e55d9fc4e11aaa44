/**
 * Scores the pocket Qwen: asks the held-out prompts through the engine and the service's own templates, and
 * judges the answers.
 *   node dist/tools/pocket-qwen-score.js [--models DIR] [--temperature 0] [--repeat-penalty 1] [--every N]
 * [--show N]
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { RequestContext } from '../src/inference/engine.js';
import { createQwenEngine } from '../src/inference/llama/engine.js';
import { projectRoot } from '../src/lib/project.js';
import { buildQuestion } from '../src/services/enhancement/request-text.js';
import { readTemplates } from '../src/services/enhancement/templates.js';
import { heldOutPrompts, timesOf } from './pocket-check/fixtures.js';
import { judgePrompt } from './pocket-check/prompts.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: path.join(projectRoot(), 'models/pocket/qwen') },
    temperature: { type: 'string', default: '0' },
    'repeat-penalty': { type: 'string', default: '1' },
    every: { type: 'string', default: '1' },
    show: { type: 'string', default: '12' },
  },
});
const templates = await readTemplates(path.join(projectRoot(), 'prompts/enhancement'));
const engine = createQwenEngine();
await engine.load({ modelDir: path.resolve(values.models), device: 'cpu', threads: 1 }, () => {});
const context: RequestContext = {
  id: 'score',
  signal: new AbortController().signal,
  emit() {},
  compute: (work) => work(),
};
const scores = new Map<string, { all: number; kept: number; detailed: number }>();
const milliseconds: number[] = [];
const shown = new Map<string, number>();
let tokens = 0;

for (const [index, item] of heldOutPrompts().entries()) {
  if (index % Number(values.every) !== 0) continue;
  const turns = item.history === undefined ? [] : [{ prompt: item.history[0], answer: item.history[1] }];
  const { params } = buildQuestion(
    { prompt: item.prompt, target: item.target, turns, temperature: Number(values.temperature), seed: index },
    templates.standard(item.mode, item.target),
    { attempt: 1, level: 0, stream: false },
  );
  const startedAt = performance.now();
  const result = await engine.methods['qwen.generate']?.(
    { ...params, repeatPenalty: Number(values['repeat-penalty']) },
    context,
  );
  milliseconds.push(performance.now() - startedAt);
  tokens += result?.completionTokens ?? 0;
  const answer = result?.stopReason === 'eos' ? result.text.trim() : '';
  const { kept, details } = judgePrompt(item, answer);
  for (const key of [item.kind, `${item.kind} ${item.group ?? item.mode}`]) {
    const score = scores.get(key) ?? { all: 0, kept: 0, detailed: 0 };
    scores.set(key, {
      all: score.all + 1,
      kept: score.kept + Number(kept),
      detailed: score.detailed + Number(kept && details >= 2),
    });
  }
  if (kept && details >= 2) continue;
  const number = (shown.get(item.kind) ?? 0) + 1;
  shown.set(item.kind, number);
  if (number <= Number(values.show))
    console.log(
      `${item.kind}: ${item.prompt}\n  → ${answer === '' ? `(no end) ${result?.text.slice(0, 300) ?? ''}` : answer}${item.expected === undefined ? '' : `\n  ≠ ${item.expected}`}`,
    );
}
const percent = (part: number, all: number) => `${((100 * part) / all).toFixed(1)} %`.padStart(8);
console.log(`${''.padEnd(20)}    n      kept  and 2 details`);
for (const [key, { all, kept, detailed }] of scores)
  console.log(
    `${key.padEnd(20)} ${String(all).padStart(4)}  ${percent(kept, all)}       ${percent(detailed, all)}`,
  );
console.log(
  `${milliseconds.length} answers, ${(tokens / milliseconds.length).toFixed(0)} tokens each; ${timesOf(milliseconds)}`,
);
await engine.unload();
