import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { readSdxlSettings } from '../../src/services/models/model-folders.js';
import { createNegativePrompts } from '../../src/services/models/negative-prompts.js';
import type { Scene } from '../../src/services/models/negative-prompts.js';

const folder = path.join(projectRoot(), 'prompts/negative');

const sentences: Record<Scene, string[]> = {
  none: [
    'a mountain lake at dawn, mist over the water',
    'golden wheat fields under a stormy sky',
    'abstract swirls of teal and magenta paint',
    'an empty street at night without people',
    'a snowy forest in winter, soft light',
    'the night sky full of stars above a desert',
    'a cozy living room with a fireplace',
    'macro photo of dew on a leaf',
    'a stone bridge over a quiet river',
    'black and white photograph of a rainy town square',
    'rolling hills with wild flowers',
    'an orange sunset over the sea',
    'a library with tall wooden shelves, no people',
    'geometric pattern, seamless texture',
    'northern lights over a frozen fjord',
    'the horsehead nebula, deep space',
    'a waterfall in a jungle, long exposure',
    'minimalist kitchen, concrete and oak',
    'ruins of a castle on a cliff',
    'a purple background with soft gradient',
  ],
  single: [
    'portrait of an old fisherman with a weathered face',
    'a red circle on a white background',
    'a cat sleeping on a windowsill',
    'a woman in a yellow raincoat walking through the rain',
    'an astronaut floating in space',
    'close-up of a hummingbird in flight',
    '1girl, solo, silver hair, forest',
    'a lone wolf howling at the moon',
    'a vintage car parked on a cobblestone street',
    'a wizard with a long beard, holding a glowing staff',
    'studio photo of a chef, a man in a white apron',
    'a small blue triangle at the top',
    'a knight, armored warrior, standing in a field',
    'a dog with a red ball-shaped collar',
    'full body shot of a ballerina on stage',
    'an elephant drinking at a river',
    'a robot reading a newspaper',
    'a dragon statue made of jade',
    'the portrait of a queen, oil painting',
    'a lighthouse on a rocky coast',
    'a police officer in the snow',
    "a girl's portrait, pastel colours",
    'one large green heart on a yellow background',
    'a penguin sliding on ice without other animals',
  ],
  several: [
    'a red circle above a blue square',
    'two cats playing with yarn',
    'a couple dancing in the rain',
    'a boy and his dog on a beach',
    'three knights around a table',
    'a crowd of people at a concert',
    'a woman with a child in her arms',
    'portrait of a family in a garden',
    'a chef teaching a student',
    'wolves running through snow',
    '2girls, school uniforms, cherry blossoms',
    'a king and a queen on their thrones',
    'a pair of parrots on a branch',
    'children flying kites',
    'a rider on a horse',
    'a man facing a bear',
    'several robots repairing a spaceship',
    'a flock of birds over the lake',
    'a doctor talking to a patient and a nurse',
    'twins in matching coats',
    'a group of hikers on a ridge',
    'a green triangle left of a purple star and a circle',
    'an old man feeding pigeons',
    'a fox next to a rabbit',
    'soldiers marching in the fog',
    'a mother holding her daughter',
    'a team of engineers',
    'two red hearts on a white background',
    'a cat, a dog and a mouse',
    'a pirate fighting a ninja on a ship',
    'friends laughing together',
    'five small sheep on a hill',
    'a bride and groom under an arch',
    'a dozen penguins on the ice',
  ],
};

t.test('finds the scene of a sentence', async (t) => {
  const negativePrompts = await createNegativePrompts({ folder, enabled: true, model: {} });
  const all = Object.entries(sentences).flatMap(([scene, prompts]) =>
    prompts.map((prompt) => [scene, prompt] as const),
  );
  t.ok(all.length >= 60, `${all.length} sentences`);
  for (const [scene, prompt] of all) t.equal(negativePrompts.forPrompt(prompt).scene, scene, prompt);
});

t.test('survives whatever is written', async (t) => {
  const { forPrompt } = await createNegativePrompts({ folder, enabled: true, model: {} });
  t.equal(forPrompt('').scene, 'none');
  t.equal(forPrompt('红色圆形 🔴 — ein roter Kreis').scene, 'none');
  t.equal(forPrompt('(cat:1.3), (dog)++ and [mouse]').scene, 'several');
  t.equal(forPrompt('a cat '.repeat(20_000)).source, 'automatic');
});

t.test('several subjects get the richer text; none is longer than the window leaves room for', async (t) => {
  const { forPrompt } = await createNegativePrompts({ folder, enabled: true, model: {} });
  const texts = (['none', 'single', 'several'] as const).map(
    (scene) => forPrompt(sentences[scene][0] ?? '').text ?? '',
  );
  t.equal(new Set(texts).size, 3);
  for (const text of texts) {
    t.match(text, /worst quality/);
    t.ok(text.split(/[\s,]+/).length <= 60, text);
    t.notMatch(text, /#|,\s*,/);
  }
  t.match(texts[2], /fused bodies/);
});

t.test('a model folder replaces the texts or does without', async (t) => {
  const dir = t.testdir({
    off: { 'ourvidz.json': '{"autoNegative":false,"withoutNegative":"empty"}' },
    own: { 'ourvidz.json': '{"autoNegative":{"none":"n","single":"s","several":"m"},"name":"x"}' },
    bare: {},
    broken: { 'ourvidz.json': '{' },
  });
  const of = async (name: string) =>
    (
      await createNegativePrompts({
        folder,
        enabled: true,
        model: await readSdxlSettings(path.join(dir, name)),
      })
    ).forPrompt('two cats');
  t.same(await of('off'), { text: '', source: 'none', scene: null });
  t.same(await of('own'), { text: 'm', source: 'automatic', scene: 'several' });
  t.match(await of('bare'), { source: 'automatic', scene: 'several' });
  await t.rejects(of('broken'));
  const disabled = await createNegativePrompts({ folder, enabled: false, model: {} });
  t.same(disabled.forPrompt('two cats'), { text: null, source: 'none', scene: null });
});
