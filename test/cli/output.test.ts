import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { buildPayload, localUserId } from '../../src/cli/commands/generate.js';
import { describeProgress, formatExplanation, slugOf } from '../../src/cli/job-view.js';
import { formatFields, formatTable, shorten } from '../../src/cli/output.js';

t.test('file names come from the prompt, in any script', async (t) => {
  t.equal(slugOf('A red circle, above: a blue square!'), 'a-red-circle-above-a-blue-square');
  t.equal(slugOf('红色圆形 🔴'), '红色圆形');
  t.equal(slugOf('../../etc/passwd'), 'etc-passwd');
  t.equal(slugOf('🔴'), 'picture');
  t.equal(slugOf('word '.repeat(50)).length <= 60, true);
});

t.test('tables, fields and progress are readable', async (t) => {
  t.equal(
    formatTable(
      ['ID', 'STATUS'],
      [
        ['a', 'queued'],
        ['bbb', undefined],
      ],
    ),
    'ID   STATUS\na    queued\nbbb  -',
  );
  t.equal(formatFields({ a: 1, long: { b: 2 }, gone: undefined }), 'a     1\nlong  {"b":2}');
  t.equal(shorten('abcdef', 4), 'abc…');
  t.equal(
    describeProgress({ stage: 'denoise', step: 7, steps: 15, fraction: 0.5, eta_seconds: 3.21 }),
    'denoise 7/15, about 3.2 s left',
  );
  t.equal(describeProgress({ stage: 'queued', step: 0, steps: 0, fraction: 0, eta_seconds: null }), 'queued');
});

t.test(
  'an explanation shows words with weights, numbers, times and the cache; unknown keys as they are',
  async (t) => {
    const explain = {
      tokens: [
        { token: 'a', id: 5, weight: 1 },
        { token: 'red', id: 6, weight: 1.3000001 },
      ],
      negative_tokens: [],
      timesteps: [925, 859.4],
      sigmas: [9.54363, 0],
      timings: { text: 0.0123, denoise: 0.4 },
      text_cache: { entries: 2, capacity: 64, hits: 1, misses: 2 },
      scheduler: 'euler',
    };
    t.equal(
      formatExplanation(explain),
      [
        'tokens      a red·1.3',
        'timesteps   925 859',
        'sigmas      9.544 0',
        'seconds     text 0.012, denoise 0.400',
        'text_cache  entries 2, capacity 64, hits 1, misses 2',
        'scheduler   euler',
      ].join('\n'),
    );
    t.equal(formatExplanation(undefined), '');
  },
);

t.test('the payload carries what was typed and nothing else', async (t) => {
  const base = { user: localUserId, output: '.', wait: true };
  t.same(buildPayload('id', 'p', { ...base, type: 'sdxl_image_fast' }), {
    id: 'id',
    type: 'sdxl_image_fast',
    prompt: 'p',
    user_id: localUserId,
    config: {},
    metadata: {},
  });
  t.same(
    buildPayload('id', 'p', {
      ...base,
      type: 'sdxl_image_high',
      images: 3,
      seed: 0,
      negative: '',
      weights: '(red:1.3)',
      reference: 'https://x/y.png',
      referenceType: 'style',
      referenceStrength: 0.6,
    }),
    {
      id: 'id',
      type: 'sdxl_image_high',
      prompt: 'p',
      user_id: localUserId,
      compel_enabled: true,
      compel_weights: '(red:1.3)',
      config: { num_images: 3, seed: 0, negative_prompt: '' },
      metadata: { reference_image_url: 'https://x/y.png', reference_type: 'style', reference_strength: 0.6 },
    },
  );
  t.same(
    buildPayload('id', 'p', {
      ...base,
      type: 'video_fast',
      seed: 9,
      frames: 17,
      firstFrame: 'https://x/1.png',
      width: 832,
      height: 480,
    })['config'],
    { seed: 9, frame_num: 17, first_frame: 'https://x/1.png', size: '832*480' },
  );
});

t.test('a reader that has seen enough ends the program without a stack', async (t) => {
  const child = spawn(process.execPath, [...ownProgram('src/cli/main'), '--help'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stdout.destroy();
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text));
  await once(child, 'close');
  t.equal(complaint, '');
});
