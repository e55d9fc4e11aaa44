/**
 * Scores what the service makes of prompts in ways to write that no training knows: chat and base, the
 * context of a conversation, cleaning, the check for lost words and the fit to 77 tokens included. A prompt
 * that gets no answer has lost everything.
 *   node dist/tools/pocket-enhance-score.js [--models DIR] [--temperature 0.7] [--every N] [--show 12] [--json FILE]
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot } from '../src/lib/project.js';
import { heldOutPrompts } from './pocket-check/fixtures.js';
import { judgePrompt } from './pocket-check/prompts.js';
import {
  contradicts,
  hasTwoDetails,
  judgeAnswer,
  judgeOutside,
  keepsAll,
  type Target,
} from './pocket-check/structures/answer.js';
import { openEnhancer } from './pocket-check/structures/enhancer.js';
import type { StructuredPrompt } from './pocket-check/structures/fill.js';
import { clipPrompts, outsidePrompts, picturePrompts, scenePrompts } from './pocket-check/structures/sets.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: path.join(projectRoot(), 'models/pocket/qwen') },
    temperature: { type: 'string', default: '0.7' },
    every: { type: 'string', default: '1' },
    show: { type: 'string', default: '12' },
    json: { type: 'string' },
  },
});
const enhancer = await openEnhancer(values.models, Number(values.temperature));
const counts = new Map<string, { all: number } & Record<string, number>>();
const slots = new Map<string, Record<string, number>>();
const shown = new Map<string, number>();
const answers: unknown[] = [];

const world: Array<{ item: StructuredPrompt; target: Target }> = [
  ...(await picturePrompts(200)).map((item) => ({ item, target: 'image' as const })),
  ...(await clipPrompts(100)).map((item) => ({ item, target: 'video' as const })),
  ...(await scenePrompts(60)).map((item, i) => ({
    item,
    target: i % 2 === 0 ? ('image' as const) : ('video' as const),
  })),
];
for (const [index, { item, target }] of world.entries()) {
  if (index % Number(values.every) !== 0) continue;
  const answer = await enhancer.ask({ prompt: item.prompt, target, seed: index, chat: index % 2 === 1 });
  const verdict = judgeAnswer(item.prompt, item, target, answer ?? '');
  const fine = {
    kept: answer !== null && keepsAll(verdict),
    contradicted: answer !== null && contradicts(verdict),
    detailed: answer !== null && hasTwoDetails(verdict),
  };
  for (const key of [item.kind, 'all of the world']) count(key, fine);
  tally(verdict.added, 'added');
  tally(verdict.contradicted, 'contradicted');
  tally(
    verdict.invented.map(() => 'invented'),
    'contradicted',
  );
  if (!fine.kept || fine.contradicted || !fine.detailed)
    show(item.kind, `${item.prompt}\n  → ${answer ?? '(none)'}\n  ${explain(verdict)}`);
  answers.push({ kind: item.kind, target, prompt: item.prompt, answer, ...fine, ...verdict });
}
for (const [index, item] of (await outsidePrompts()).entries()) {
  if (index % Number(values.every) !== 0) continue;
  const target = index % 4 < 2 ? 'image' : 'video';
  const answer = await enhancer.ask({ prompt: item.prompt, target, seed: index, chat: index % 2 === 1 });
  const { verbatim, invented } = judgeOutside(item.prompt, answer ?? '');
  const fine = { kept: answer !== null && verbatim, contradicted: invented.length > 0 };
  count('outside', fine);
  if (!fine.kept || fine.contradicted)
    show('outside', `${item.prompt}\n  → ${answer ?? '(none)'}\n  ${JSON.stringify(invented)}`);
  answers.push({ kind: 'outside', target, prompt: item.prompt, answer, ...fine, invented });
}
const followUps = heldOutPrompts().filter(({ kind }) => kind === 'followup');
for (const [index, item] of followUps.entries()) {
  const [asked = '', answered = ''] = item.history ?? [];
  if (index % Number(values.every) !== 0) continue;
  const answer = await enhancer.ask({
    prompt: item.prompt,
    target: item.target,
    seed: index,
    chat: true,
    context: `Previous prompt: '${asked}' → Enhanced: '${answered}'`,
  });
  const { kept } = judgePrompt(item, answer ?? '');
  count('told follow-up', { kept });
  if (!kept) show('told follow-up', `${item.prompt}\n  → ${answer ?? '(none)'}\n  ≠ ${item.expected ?? ''}`);
}
console.log('');
for (const [key, { all, ...parts }] of counts)
  console.log(
    `${key.padEnd(18)} ${String(all).padStart(4)}  ${Object.entries(parts)
      .map(([name, number]) => `${name} ${((100 * number) / all).toFixed(1)} %`)
      .join('  ')}`,
  );
for (const [slot, parts] of slots) console.log(`${slot.padEnd(18)} ${JSON.stringify(parts)}`);
console.log(`${enhancer.report()}`);
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(answers, null, 1)}\n`);
await enhancer.close();

function count(key: string, fine: Record<string, boolean>): void {
  const sum = counts.get(key) ?? { all: 0 };
  sum.all += 1;
  for (const [name, is] of Object.entries(fine)) sum[name] = (sum[name] ?? 0) + Number(is);
  counts.set(key, sum);
}

function tally(names: readonly string[], what: string): void {
  for (const name of names) {
    const slot = name.split(' ')[0] as string;
    const parts = slots.get(slot) ?? {};
    parts[what] = (parts[what] ?? 0) + 1;
    slots.set(slot, parts);
  }
}

function show(kind: string, text: string): void {
  const number = (shown.get(kind) ?? 0) + 1;
  shown.set(kind, number);
  if (number <= Number(values.show)) console.log(`${kind}: ${text}`);
}

function explain({
  lost,
  contradicted,
  invented,
  added,
  finish,
  open,
}: ReturnType<typeof judgeAnswer>): string {
  return `lost ${lost.join()} | against ${contradicted.join()} | invented ${invented.join()} | added ${added.join()} and ${finish} of finish, ${open} open`;
}
