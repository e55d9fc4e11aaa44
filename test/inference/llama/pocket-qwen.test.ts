/**
 * The pocket prompt model in the repository: cut into tokens as its reference tokenizer does, and as good as
 * its README says.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { getLlama } from 'node-llama-cpp';
import t from 'tap';
import type { RequestContext } from '../../../src/inference/engine.js';
import { createQwenEngine } from '../../../src/inference/llama/engine.js';
import { projectRoot } from '../../../src/lib/project.js';
import { buildQuestion } from '../../../src/services/enhancement/request-text.js';
import { readTemplates } from '../../../src/services/enhancement/templates.js';
import { heldOutPrompts } from '../../../tools/pocket-check/fixtures.js';
import { openEnhancer } from '../../../tools/pocket-check/structures/enhancer.js';
import { drawable, judgePrompt, type HeldOutPrompt } from '../../../tools/pocket-check/prompts.js';

/** What is used of the library, whose own declarations do not resolve under Node's module rules. */
type CreateTokenizer = new (
  definition: unknown,
  settings: object,
) => { encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] } };

const read = (file: string): unknown => JSON.parse(readFileSync(path.join(projectRoot(), file), 'utf8'));
const folder = path.join(projectRoot(), 'models/pocket/qwen');
const items = heldOutPrompts();

t.test('200 strings become the tokens of the reference tokenizer, and text again', async (t) => {
  const strings = read('test/fixtures/pocket-qwen-tokens.json') as Array<{ text: string; ids: number[] }>;
  t.equal(strings.length, 200);
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false });
  t.teardown(() => llama.dispose());
  const model = await llama.loadModel({ modelPath: path.join(folder, 'qwen.gguf'), vocabOnly: true });
  const script = new (Tokenizer as CreateTokenizer)(read('models/pocket/qwen/tokenizer.json'), {});
  const differ: string[] = [];
  for (const { text, ids } of strings) {
    const tokens = model.tokenize(text, true);
    if (tokens.join() !== ids.join()) differ.push(`llama.cpp: ${JSON.stringify(text)}`);
    if (model.detokenize(tokens, true) !== text) differ.push(`back to text: ${JSON.stringify(text)}`);
    if (script.encode(text, { add_special_tokens: false }).ids.join() !== ids.join())
      differ.push(`tokenizer.json: ${JSON.stringify(text)}`);
  }
  t.same(differ, []);
});

t.test('every word of a detail is known to the model that is to draw it', async (t) => {
  for (const [target, vocabulary] of [['image', 'models/pocket/sdxl/tokenizer/vocab.json']] as const) {
    const known = read(vocabulary) as Record<string, number>;
    t.same(
      [...new Set(drawable[target].flatMap((phrase) => phrase.split(' ')))].filter(
        (word) => known[`${word}</w>`] === undefined,
      ),
      [],
      target,
    );
  }
});

t.test('the judge counts what was lost, changed or added', async (t) => {
  const world = (prompt: string, answer: string) =>
    judgePrompt({ kind: 'world', mode: 'chat', target: 'image', prompt }, answer);
  t.same(world('a red circle', 'a large red circle, in the centre, plain white background'), {
    kept: true,
    details: 3,
  });
  t.same(
    world(
      'an orange star above a heart',
      'a small orange star above a large blue heart, plain white background, best quality',
    ),
    { kept: true, details: 4 },
  );
  for (const wrong of [
    'a large circle, in the centre',
    'a large red square, in the centre',
    'a red red star',
    'a red circle, in the centre, a zebra',
    'a red circle moving up, in the centre',
  ])
    t.equal(world('a red circle', wrong).kept, false, wrong);
  t.equal(world('a star above a heart', 'a heart above a star').kept, false);
  t.equal(
    world('a star on a red background', 'a star on a red background, plain blue background').kept,
    false,
    'two backgrounds',
  );
  t.same(
    world('a red circle', 'a red circle, moving up, a few clouds'),
    { kept: false, details: 0 },
    'details of the other model',
  );
  const outside: HeldOutPrompt = {
    kind: 'outside',
    mode: 'base',
    target: 'video',
    prompt: 'Two Zebras; one 猫',
  };
  t.same(judgePrompt(outside, 'Two Zebras; one 猫, moving up, night sky'), { kept: true, details: 2 });
  for (const wrong of [
    'two Zebras; one 猫, moving up',
    'Two Zebras, one 猫, moving up',
    'Two Zebra; one 猫',
    'A Two Zebras; one 猫',
  ])
    t.equal(judgePrompt(outside, wrong).kept, false, wrong);
  const followUp: HeldOutPrompt = {
    ...outside,
    kind: 'followup',
    prompt: 'make it night',
    expected: 'a red star, dark night sky, the moon on the left',
  };
  t.ok(judgePrompt(followUp, 'a red star, clear night sky, the moon on the left').kept);
  for (const wrong of [
    'a red star, clear day sky, the moon on the left',
    'a red star, night sky, the moon on the right',
    'a star, night sky, the moon on the left',
  ])
    t.notOk(judgePrompt(followUp, wrong).kept, wrong);
});

t.test('held-out prompts, asked as the service asks, keep what they say', { timeout: 120_000 }, async (t) => {
  const templates = await readTemplates(path.join(projectRoot(), 'prompts/enhancement'));
  const engine = createQwenEngine();
  t.teardown(() => engine.unload());
  await engine.load({ modelDir: folder, device: 'cpu', threads: 1 }, () => {});
  const context: RequestContext = {
    id: 'test',
    signal: new AbortController().signal,
    emit() {},
    compute: (work) => work(),
  };
  const wrong: string[] = [];
  const some = items.filter((_, index) => index % 13 === 0);
  for (const item of some) {
    const turns = item.history === undefined ? [] : [{ prompt: item.history[0], answer: item.history[1] }];
    const { params } = buildQuestion(
      { prompt: item.prompt, target: item.target, turns, temperature: 0 },
      templates.standard(item.mode, item.target),
      { attempt: 1, level: 0, stream: false },
    );
    const result = await engine.methods['qwen.generate']?.({ ...params, repeatPenalty: 1 }, context);
    const { kept, details } = judgePrompt(item, result?.text.trim() ?? '');
    if (!kept || details < 2 || result?.stopReason !== 'eos')
      wrong.push(`${item.prompt} → ${result?.text ?? ''}`);
  }
  t.ok(wrong.length <= 0.05 * some.length, `${wrong.length} of ${some.length} wrong: ${wrong.join(' | ')}`);
});

t.test('who asks for a told prompt again gets it', async (t) => {
  const enhancer = await openEnhancer(folder, 0);
  t.teardown(() => enhancer.close());
  const told = 'a large red circle, in the centre, plain white background';
  const context = `Previous prompt: 'a red circle' → Enhanced: '${told}'`;
  const ask = (prompt: string) => enhancer.ask({ prompt, target: 'image', seed: 1, chat: true, context });
  t.equal(await ask('make it blue'), told.replace('red', 'blue'));
  t.equal(await ask('thanks, keep it'), told);
  t.equal(await ask('the same again'), told);
});
