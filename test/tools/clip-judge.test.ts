/**
 * The check that scores the pocket WAN, on clips whose content is known: a judge that passes everything would
 * be none.
 */
import t from 'tap';
import { judgeClip, type HeldOutClip } from '../../tools/pocket-check/clip.js';
import { drawClip } from '../../tools/pocket-check/clip-world.js';
import { heldOutClips } from '../../tools/pocket-check/fixtures.js';
import type { Pixels } from '../../tools/pocket-check/picture.js';

const items = heldOutClips();

t.test('true clips and pictures of the held-out prompts are right in everything', async (t) => {
  const clips = items.filter(({ kind }, i) => kind === 'clip' && i % 6 === 0);
  const wrong = clips
    .map((item) => `${item.prompt}: ${judgeClip(item, drawClip(item, 17)).join(', ')}`)
    .filter((text) => !text.endsWith(': '));
  t.same(wrong, [], `${clips.length} clips`);
  const pictures = items.filter(({ kind }, i) => kind === 'picture' && i % 10 === 0);
  t.same(
    pictures.filter((item) => judgeClip(item, drawClip(item, 1)).length > 0).map(({ prompt }) => prompt),
    [],
    `${pictures.length} pictures`,
  );
});

t.test('each wrong item is named', async (t) => {
  const item: HeldOutClip = {
    kind: 'clip',
    prompt: '',
    colour: 'red',
    shape: 'star',
    background: 'white',
    motion: 'left',
    speed: 'fast',
  };
  const shown = (change: Partial<HeldOutClip>) => judgeClip(item, drawClip({ ...item, ...change }, 17));
  t.same(shown({}), []);
  t.same(shown({ colour: 'blue' }), ['colour']);
  t.same(shown({ shape: 'heart' }), ['shape']);
  t.same(shown({ background: 'black' }), ['background']);
  for (const motion of ['right', 'up', 'down', 'grow', 'shrink', 'orbit', 'blink', 'still'])
    t.same(shown({ motion }), ['motion'], motion);
  t.same(shown({ speed: 'slow' }), ['speed']);
  const flat = drawClip({ ...item, motion: 'blink' }, 2).slice(1);
  t.same(judgeClip({ ...item, motion: null }, flat), ['colour', 'shape'], 'nothing but ground');
});

t.test('day to night is a sky that darkens', async (t) => {
  const sky = (level: number): Pixels => ({
    data: new Uint8Array(64 * 64 * 3).fill(level),
    width: 64,
    height: 64,
  });
  const item: HeldOutClip = { kind: 'day to night', prompt: '' };
  t.same(
    judgeClip(
      item,
      Array.from({ length: 17 }, (_, i) => sky(220 - 10 * i)),
    ),
    [],
  );
  t.same(
    judgeClip(
      item,
      Array.from({ length: 17 }, () => sky(220)),
    ),
    ['motion'],
  );
});
