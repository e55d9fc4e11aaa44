/** What curious people type first: every answer says in words what the small model that ships could not know. */
import { cp, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { sdxlPayload, wanPayload } from '../helpers/jobs.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(300_000);

/** The pocket models' own words, before engines that draw nothing: notes are made where jobs are planned. */
async function open(t: Test) {
  const models = t.testdir({});
  for (const kind of ['sdxl', 'wan']) {
    await mkdir(path.join(models, kind));
    await cp(
      path.join(projectRoot(), `models/pocket/${kind}/ourvidz.json`),
      path.join(models, kind, 'ourvidz.json'),
    );
  }
  const app = await build(t, {
    env: { MODELS_DIR: models },
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  const notesOn = async (payload: ReturnType<typeof sdxlPayload> | ReturnType<typeof wanPayload>) => {
    t.equal((await app.call('POST', '/jobs', payload)).statusCode, 202);
    const { metadata } = await waitFor(
      async () => {
        const job = (await app.call('GET', `/jobs/${payload.id}`)).json<{
          status: string;
          metadata: { prompt_notes: Array<{ field: string; text: string; note: string }>; frames?: number };
        }>();
        return job.status === 'completed' ? job : undefined;
      },
      { what: payload.prompt, timeoutMs: 120_000 },
    );
    return metadata;
  };
  return { ...app, notesOn };
}

const newcomers: Array<[prompt: string, unknown: string[]]> = [
  ['a cat', ['cat']],
  ['astronaut riding a horse', ['astronaut riding a horse']],
  ['six red circles', ['six']],
  ['ein roter Kreis', ['ein roter Kreis']],
  ['a beautiful woman in a red dress', ['beautiful woman', 'dress']],
  ['sunset over Paris, cinematic', ['Paris']],
  ['a golden retriever puppy playing in the snow', ['retriever puppy playing in the snow']],
  ['cyberpunk city at night, neon lights', ['cyberpunk city', 'neon lights']],
  ['an apple on a table', ['apple on a table']],
  ['a red sports car', ['sports car']],
  ['portrait of an old man, oil painting', ['portrait of an old man', 'oil']],
  ['un chat noir', ['un chat noir']],
  ['красный круг', ['красный круг']],
  ['猫', ['猫']],
  ['12 blue stars', ['12']],
  ['a red hexagon', ['hexagon']],
  ['a pink circle on a grey background', ['grey']],
  ['hello world', ['world']],
  ['a dragon breathing fire over a castle', ['dragon breathing fire', 'castle']],
  ['Mona Lisa', ['Mona Lisa']],
  ['a red circle, a blue square and a green star', ['circle, square, star']],
  ['asdf', ['asdf']],
];

t.test('the first prompts of newcomers', async (t) => {
  const { notesOn } = await open(t);
  for (const [prompt, unknown] of newcomers) {
    const { prompt_notes: notes } = await notesOn(sdxlPayload({ id: randomUUID(), prompt }));
    t.same(
      notes.map(({ text }) => text),
      unknown,
      prompt,
    );
    t.match(notes[0], {
      field: 'prompt',
      note: /this demo model (does not know|draws).*\. It draws one to five/,
    });
  }
  const { prompt_notes: foreign } = await notesOn(sdxlPayload({ id: randomUUID(), prompt: 'un chat noir' }));
  t.match(foreign[0]?.note, /does not know it and reads English only/);
});

t.test('what it knows is not remarked on, whatever its form', async (t) => {
  const { notesOn, call } = await open(t);
  const { engines } = (await call('GET', '/capabilities')).json<{
    engines: Record<string, { world?: { examples: string[]; sentence: string; words: string[] } }>;
  }>();
  const examples = engines['sdxl']?.world?.examples ?? [];
  t.ok(examples.length >= 4);
  t.match(engines['sdxl']?.world, {
    sentence: /^This demo model only draws .* models pull sdxl/,
    native_size: { width: 128, height: 128 },
  });
  t.match(engines['wan']?.world, { native_frames: 17, native_size: { width: 64 } });
  for (const prompt of [
    ...examples,
    'A Large RED circle!',
    'a (red:1.4) circle, (blue square)1.2',
    'star++',
    'masterpiece, best quality, two green hearts on a plain white background',
  ])
    t.same((await notesOn(sdxlPayload({ id: randomUUID(), prompt }))).prompt_notes, [], prompt);
  const sized = await notesOn(
    sdxlPayload({ id: randomUUID(), prompt: 'a red circle', config: { width: 256, height: 128 } }),
  );
  t.match(sized.prompt_notes, [{ field: 'config.width', text: '256', note: /made for 128/ }]);
});

t.test('clips: seventeen frames where none are asked for, and the words of motion', async (t) => {
  const { notesOn, call } = await open(t);
  const { engines } = (await call('GET', '/capabilities')).json<{
    engines: Record<string, { world?: { examples: string[] } }>;
  }>();
  for (const prompt of engines['wan']?.world?.examples ?? []) {
    const { prompt_notes: notes, frames } = await notesOn(
      wanPayload({ id: randomUUID(), type: 'video_fast', prompt, config: {} }),
    );
    t.same(notes, [], prompt);
    t.equal(frames, 17);
  }
  const { prompt_notes: notes } = await notesOn(
    wanPayload({
      id: randomUUID(),
      type: 'video_fast',
      prompt: 'a red car drives left',
      config: { size: '832*480', frame_num: 97 },
    }),
  );
  t.match(
    notes.map(({ field, text }) => [field, text]),
    [
      ['prompt', 'car drives'],
      ['config.size', '832*480'],
      ['config.frame_num', '97'],
    ],
  );
});
