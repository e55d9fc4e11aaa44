/** Weights from `POST /jobs` to the callback: whatever is sent, the job ends as the specification says. */
import t, { type Test } from 'tap';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload, submit, waitForJob } from '../helpers/jobs.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(240_000);

const receiver = await startCallbackReceiver();
t.teardown(() => receiver.close());
const service = await startService({ env: { CALLBACK_URL: receiver.url } });
t.teardown(() => service.cleanUp());

/** Ends completed in one attempt with one asset; what the job and its callback say is the same. */
async function run(
  t: Test,
  prompt: string,
  fields: Record<string, unknown>,
  config: Record<string, unknown> = {},
) {
  const id = await submit(service, {
    ...sdxlPayload({ prompt, config: { num_images: 1, seed: 3, ...config } }),
    ...fields,
  });
  const job = await waitForJob(service, id);
  t.match(job, { status: 'completed', attempts: 1, assets: { length: 1 } });
  const callback = (await receiver.waitForTerminal(id)).body;
  t.match(callback, { status: 'completed', assets: { length: 1 } });
  const { explain, ...shared } = job.metadata;
  for (const key of [
    'compel_success',
    'enhancement_strategy',
    'final_prompt_type',
    'compel_weights_used',
    'compel_weights_dropped',
    'token_count',
    'prompt_truncated',
  ]) {
    t.same(callback.metadata[key], shared[key], `${key} of the callback`);
  }
  t.notOk('explain' in (callback.metadata as object));
  return {
    metadata: shared,
    explain: explain as {
      tokens: Array<{ token: string; weight: number }>;
      negative_tokens: unknown[];
      timings: Record<string, number>;
      text_from_cache: boolean;
      text_cache: Record<string, number>;
    },
  };
}

const weighted = (weights: string) => ({ compel_enabled: true, compel_weights: weights });

t.test(
  'nine weights, two of them doubled: the last of a phrase wins, six act, every other is reported',
  async (t) => {
    const { metadata } = await run(
      t,
      'a red circle above a blue square',
      weighted(
        '(red:1.1), (circle:1.2), (Red:1.4), (blue:0.9), (square:5), (star:1.1), (circle:1.3), (heart:1.1), (green:1.2)',
      ),
    );
    t.match(metadata, {
      compel_success: true,
      enhancement_strategy: 'compel',
      final_prompt_type: 'conditioning_tensor',
      prompt_truncated: false,
    });
    t.same(metadata['compel_weights_used'], [
      { text: 'Red', weight: 1.4 },
      { text: 'circle', weight: 1.3 },
      { text: 'blue', weight: 0.9 },
      { text: 'square', weight: 2 },
      { text: 'star', weight: 1.1 },
      { text: 'heart', weight: 1.1 },
    ]);
    t.match(metadata['compel_weights_dropped'], [
      { text: 'red', weight: 1.1, reason: /again/ },
      { text: 'circle', weight: 1.2, reason: /again/ },
      { text: 'green', weight: 1.2, reason: /more than 6/ },
    ]);
    t.match(metadata['compel_weights_normalised'], [{ text: 'square', from: 5, to: 2 }]);
  },
);

t.test('(invalid:weights): the plain prompt is drawn and the job says so', async (t) => {
  const { metadata, explain } = await run(t, 'a red circle', weighted('(invalid:weights)'), {
    explain: true,
  });
  t.match(metadata, {
    compel_success: false,
    enhancement_strategy: 'fallback',
    final_prompt_type: 'string',
    compel_enabled: true,
    compel_weights: '(invalid:weights)',
    token_count: 5,
  });
  t.same(
    explain.tokens.map(({ token, weight }) => [token, weight]),
    [
      ['a', 1],
      ['red', 1],
      ['circle', 1],
    ],
  );
});

t.test(
  'a prompt of 200 tokens: cut to the window, never for weights, which are dropped and reported',
  async (t) => {
    const { metadata, explain } = await run(
      t,
      'a red circle above '.repeat(50).trim(),
      weighted('(red:1.3), (heart:1.2), (star:1.4)'),
      { explain: true },
    );
    t.match(metadata, {
      token_count: 202,
      prompt_truncated: true,
      compel_success: true,
      compel_weights_used: [{ text: 'red', weight: 1.3 }],
    });
    t.match(metadata['compel_weights_dropped'], [
      { text: 'heart', reason: /77 tokens/ },
      { text: 'star', reason: /77 tokens/ },
    ]);
    t.equal(explain.tokens.length, 75);
    const alone = await run(t, 'a red circle above '.repeat(50).trim(), weighted('(heart:1.2)'));
    t.match(
      alone.metadata,
      {
        compel_success: false,
        enhancement_strategy: 'fallback',
        final_prompt_type: 'string',
        compel_weights_used: [],
      },
      'no weight left: the plain prompt',
    );
  },
);

t.test('weights on punctuation and emoji act on their tokens', async (t) => {
  const { metadata, explain } = await run(
    t,
    'a red circle 🎈, really!',
    weighted('(🎈:1.4), (!:1.2), (...:0.8), (\\(:1.1)'),
    { explain: true },
  );
  t.match(metadata, { compel_success: true, enhancement_strategy: 'compel' });
  t.same(
    (metadata['compel_weights_used'] as Array<{ text: string }>).map(({ text }) => text),
    ['🎈', '!', '...', '('],
  );
  const weights = new Set(explain.tokens.map(({ weight }) => weight));
  t.same([...weights].sort(), [0.8, 1, 1.1, 1.2, 1.4]);
  const inPrompt = await run(t, 'a (red, circle!:1.3) (🎈)0.8 "…"1.2', {}, { explain: true });
  t.same([...new Set(inPrompt.explain.tokens.map(({ weight }) => weight))].sort(), [0.8, 1, 1.2, 1.3]);
});

t.test(
  'a job that explains itself: tokens, negative tokens, schedule, times of every stage, and the text cache at work',
  async (t) => {
    const config = { explain: true, negative_prompt: 'blue', seed: 8 };
    const first = await run(t, 'a (yellow:1.2) star', {}, config);
    const again = await run(t, 'a (yellow:1.2) star', {}, { ...config, seed: 9 });
    t.match(first.explain, {
      negative_tokens: [{ token: 'blue', weight: 1 }],
      scheduler: 'euler',
      timesteps: { length: 15 },
      sigmas: { length: 16 },
      text_from_cache: false,
    });
    for (const stage of ['text', 'denoise', 'decode', 'encode'])
      t.ok((first.explain.timings[stage] ?? 0) > 0, stage);
    t.equal(again.explain.text_from_cache, true);
    t.match(again.explain.text_cache, {
      capacity: 64,
      hits: (first.explain.text_cache['hits'] ?? 0) + 1,
      misses: first.explain.text_cache['misses'],
      entries: first.explain.text_cache['entries'],
    });
  },
);

t.test(
  'parts and weights without end are refused with the field and the rule, by /test-compel and in a job, at once',
  async (t) => {
    const parts = (count: number) => `(${Array.from({ length: count }, () => '"a"').join(',')}).and()`;
    const tooMany = [
      [parts(2470), /prompt may have at most 16 parts in \.and\(\) or \.blend\(\), not 2470/],
      ['(a)0.9 (b)0.8 '.repeat(700), /prompt may have at most 64 pieces with a weight below 1, not 1400/],
    ] as const;
    for (const [prompt, message] of tooMany) {
      const response = await service.send('POST', '/test-compel', { prompt });
      t.equal(response.status, 400);
      t.match(await response.json(), { code: 'INVALID_PARAMETERS', message, details: [{ field: 'prompt' }] });
      for (const fields of [
        { prompt },
        { prompt: 'a red circle', config: { num_images: 1, seed: 3, negative_prompt: prompt } },
      ]) {
        const id = await submit(service, sdxlPayload(fields));
        const job = await waitForJob(service, id);
        t.match(job, { status: 'failed', attempts: 1, error_message: message });
      }
    }
    const most = await service.send('POST', '/test-compel', { prompt: parts(16) });
    t.match(await most.json(), {
      token_count: 16 * 3,
      tensor_shapes: { prompt_embeds: [1, 16 * 77, 320] },
      tokens: { length: 16 },
    });
  },
);
