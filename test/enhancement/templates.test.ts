import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import {
  fillTemplate,
  parseTemplate,
  readTemplates,
  type Template,
} from '../../src/services/enhancement/templates.js';

const shipped = path.join(projectRoot(), 'prompts/enhancement');
const file = (head: string, text: string) => `---\n${head}\n---\n${text}\n`;
const good = 'name: mine\nstrategy: base\ntarget: image\nversion: 2';

t.test('the shipped templates', async (t) => {
  const templates = await readTemplates(shipped);
  for (const strategy of ['base', 'chat'] as const) {
    for (const target of ['image', 'video'] as const)
      t.match(templates.standard(strategy, target), {
        strategy,
        target,
        sampling: { temperature: 0.7, maxTokens: 512 },
      });
  }
  t.match(
    fillTemplate(templates.standard('base', 'image'), ' a red\n\ncircle '),
    /\nOriginal prompt: a red circle\nEnhanced detailed prompt:$/,
  );
  t.equal(templates.get('nobody'), undefined);
});

t.test('a prompt is put in as it is, whatever it contains', (t) => {
  const template = parseTemplate(
    file(good, 'Original prompt: {prompt}\nEnhanced detailed prompt:'),
  ) as Template;
  t.equal(
    fillTemplate(template, "$& {prompt} $1 $'"),
    "Original prompt: $& {prompt} $1 $'\nEnhanced detailed prompt:",
  );
  t.end();
});

t.test('what is wrong with a file is said', (t) => {
  for (const [source, problem] of [
    ['no front matter', /begin with front matter/],
    [file('name: [', '{prompt}'), /not YAML/],
    [file('- a', '{prompt}'), /names and values/],
    [file(good.replace('mine', 'My Own'), '{prompt}'), /name must be/],
    [file(good.replace('base', 'poem'), '{prompt}'), /strategy must be base or chat/],
    [file(good.replace('image', 'song'), '{prompt}'), /target must be image or video/],
    [file(good.replace('version: 2', ''), '{prompt}'), /version must be/],
    [file(`${good}\ntemprature: 1`, '{prompt}'), /temprature is not known/],
    [
      file(`${good}\nsampling:\n  temperature: 3`, '{prompt}'),
      /sampling\.temperature must be a number from 0 to 2/,
    ],
    [file(`${good}\nsampling:\n  top_k: 1.5`, '{prompt}'), /sampling\.top_k must be a whole number/],
    [file(`${good}\nsampling:\n  heat: 1`, '{prompt}'), /sampling\.heat is not known/],
    [file(`${good}\nsampling: warm`, '{prompt}'), /sampling must be names and numbers/],
    [file(good, 'no place for it'), /must contain \{prompt\} once/],
    [file(good, '{prompt} {prompt}'), /must contain \{prompt\} once/],
    [file(good.replace('base', 'chat'), 'Improve {prompt}'), /must not contain \{prompt\}/],
    [file(good, ''), /1 to 8000 characters/],
  ] as const)
    t.match(parseTemplate(source), [problem], source);
  t.match(parseTemplate(file(`${good}\nsampling:\n  temperature: 0\n  max_tokens: 60`, '{prompt}')), {
    version: '2',
    sampling: { temperature: 0, topK: 20, maxTokens: 60 },
  });
  t.end();
});

t.test('a folder: all problems at once, and the four standard templates are needed', async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-templates-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await t.rejects(readTemplates(folder), { message: /no template base-image[\s\S]*no template chat-video/ });
  await cp(shipped, folder, { recursive: true });
  await writeFile(path.join(folder, 'own.md'), file(good, '{prompt}, in ink:'));
  t.equal((await readTemplates(folder)).get('mine')?.version, '2');
  await writeFile(path.join(folder, 'twin.md'), file(good, '{prompt}'));
  await writeFile(path.join(folder, 'broken.md'), 'nothing');
  await t.rejects(readTemplates(folder), {
    message: /broken\.md: it must begin[\s\S]*twin\.md: another file has the name mine/,
  });
});
