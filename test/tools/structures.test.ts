/** The held-out structures, and the judge of pictures on everything they can ask for. */
import sharp from 'sharp';
import t from 'tap';
import { judge } from '../../tools/pocket-check/judge.js';
import { palette } from '../../tools/pocket-check/picture.js';
import { drawScene } from '../../tools/pocket-check/scenes.js';
import { readStructures } from '../../tools/pocket-check/structures/fill.js';
import {
  clipPrompts,
  outsidePrompts,
  picturePrompts,
  scenePrompts,
  unseenPairPrompts,
} from '../../tools/pocket-check/structures/sets.js';

t.test('every structure is filled, each prompt once, the same ones every time', async (t) => {
  const sets = await Promise.all([
    picturePrompts(),
    clipPrompts(),
    scenePrompts(),
    outsidePrompts(),
    unseenPairPrompts(),
  ]);
  t.same(
    sets.map((set) => set.length),
    [400, 200, 60, 200, 60],
  );
  const all = sets.flat();
  t.same(
    all.filter(({ prompt }) => /[{}~>]|==/.test(prompt)),
    [],
    'no slot is left',
  );
  const used = new Set(all.map(({ structure }) => structure));
  t.same(
    (await readStructures()).filter(({ structure }) => !used.has(structure)),
    [],
  );
  t.same(await picturePrompts(), sets[0]);
});

t.test('the judge tells every shape and colour of the world from every other', async (t) => {
  const shapes = ['circle', 'square', 'triangle', 'star', 'heart', 'ring', 'cross', 'diamond', 'arrow'];
  const colours = Object.keys(palette);
  const wrong: string[] = [];
  for (const [i, background] of colours.entries()) {
    for (const [j, shape] of shapes.entries()) {
      const colour = colours[(i + 1 + (j % (colours.length - 1))) % colours.length] as string;
      const radius = 11 + 2 * j;
      const picture = await drawScene({ background, things: [{ colour, shape, x: 60, y: 66, radius }] });
      const { data, info } = await sharp(picture).raw().toBuffer({ resolveWithObject: true });
      const faults = judge(
        { kind: 'one', prompt: '', objects: [{ colour, shape }], background },
        { data, width: info.width, height: info.height },
      );
      if (faults.length > 0) wrong.push(`${colour} ${shape} on ${background}: ${faults.join(', ')}`);
    }
  }
  t.same(wrong, []);
});
