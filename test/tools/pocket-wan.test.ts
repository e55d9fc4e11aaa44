/**
 * The pocket WAN keeps its scores: a sample of the held-out prompts through the engine's own code and the
 * finished files.
 */
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { judgeClip, type HeldOutClip } from '../../tools/pocket-check/clip.js';
import { drawClip } from '../../tools/pocket-check/clip-world.js';
import { heldOutClips } from '../../tools/pocket-check/fixtures.js';
import type { Pixels } from '../../tools/pocket-check/picture.js';
import { largestJump, psnr } from '../../tools/pocket-check/video-frames.js';
import { openStudio } from '../../tools/pocket-check/wan-studio.js';
import { requireCommand } from '../helpers/requirements.js';

t.setTimeout(900_000); // minutes where other programs compute too

t.test('clips, pictures and given ends', { skip: requireCommand('ffmpeg') }, async (t) => {
  const studio = await openStudio(path.join(projectRoot(), 'models/pocket/wan'), {
    steps: 25,
    guidance: 5,
    shift: 5,
    scheduler: 'unipc',
    frames: 17,
  });
  t.teardown(() => studio.close());
  const items = heldOutClips().map((item, index) => ({ item, index }));
  const sample = (picture: boolean, every: number) =>
    items.filter(({ item, index }) => (item.kind === 'picture') === picture && index % every === 0);
  const right = async (some: typeof items, output: 'video' | 'image') => {
    let count = 0;
    for (const { item, index } of some) {
      const wrong = judgeClip(item, (await studio.make(item.prompt, 1000 + index, output)).frames);
      if (wrong.every((each) => each === 'speed')) count += 1;
      else t.comment(`${item.prompt}: ${wrong.join(', ')}`);
    }
    return count;
  };
  // The gates are 85 and 92 % of 200; so few say no more than that it has not fallen apart.
  const clips = sample(false, 20);
  t.ok((await right(clips, 'video')) >= clips.length * 0.7, `${clips.length} clips`);
  const pictures = sample(true, 13);
  t.ok((await right(pictures, 'image')) >= pictures.length * 0.75, `${pictures.length} pictures`);

  const moving = items.find(({ item }) => item.motion === 'right' && item.shape === 'circle') ?? items[0];
  const clip = drawClip(moving?.item as HeldOutClip, 17);
  const [start, end] = [clip[0] as Pixels, clip.at(-1) as Pixels];
  const { frames } = await studio.make(moving?.item.prompt ?? '', 1, 'video', { start, end });
  t.ok(
    psnr(frames[0] as Pixels, start) >= 25,
    `first frame ${psnr(frames[0] as Pixels, start).toFixed(1)} dB`,
  );
  t.ok(
    psnr(frames.at(-1) as Pixels, end) >= 25,
    `last frame ${psnr(frames.at(-1) as Pixels, end).toFixed(1)} dB`,
  );
  const ratio = largestJump(frames) / largestJump(await studio.throughVae(clip));
  t.ok(ratio < 2, `largest jump ${ratio.toFixed(2)} times that of the true clip`);
});
