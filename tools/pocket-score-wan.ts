/**
 * Scores the pocket WAN: makes the held-out prompts through the engine's own code, reads the finished files
 * and lets the pixel check judge; then what true clips lose in the VAE alone, and clips between given first
 * and last frames.
 *   node dist/tools/pocket-score-wan.js [--structures] [--models DIR] [--steps 25] [--guidance 5] [--shift 5] [--scheduler
 * unipc] [--every N] [--ends 40] [--keep DIR] [--json FILE]
 */
import { cp, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { flowSchedulerNames } from '../src/inference/generation.js';
import { projectRoot } from '../src/lib/project.js';
import { judgeClip, type ClipItem, type HeldOutClip } from './pocket-check/clip.js';
import { drawClip } from './pocket-check/clip-world.js';
import { heldOutClips } from './pocket-check/fixtures.js';
import { largestJump, psnr } from './pocket-check/video-frames.js';
import { clipPrompts } from './pocket-check/structures/sets.js';
import { openStudio, type Studio } from './pocket-check/wan-studio.js';
import type { Pixels } from './pocket-check/picture.js';

const { values } = parseArgs({
  options: {
    structures: { type: 'boolean', default: false },
    models: { type: 'string', default: path.join(projectRoot(), 'models/pocket/wan') },
    steps: { type: 'string', default: '25' },
    guidance: { type: 'string', default: '5' },
    shift: { type: 'string', default: '5' },
    scheduler: { type: 'string', default: 'unipc' },
    every: { type: 'string', default: '1' },
    ends: { type: 'string', default: '40' },
    keep: { type: 'string' },
    json: { type: 'string' },
  },
});
const frames = 17;
const items = (values.structures ? await structured() : heldOutClips())
  .map((item, index) => ({ item, index }))
  .filter(({ index }) => index % Number(values.every) === 0);
const studio = await openStudio(values.models, {
  steps: Number(values.steps),
  guidance: Number(values.guidance),
  shift: Number(values.shift),
  scheduler: flowSchedulerNames.find((name) => name === values.scheduler) ?? 'unipc',
  frames,
});
const report: Record<string, unknown> = {
  steps: values.steps,
  guidance: values.guidance,
  shift: values.shift,
  scheduler: values.scheduler,
};
try {
  await studio.make('a red circle', 0, 'video');
  report['clips'] = await scorePrompts(
    studio,
    items.filter(({ item }) => item.kind !== 'picture'),
    'video',
  );
  if (!values.structures) await scoreTheRest();
} finally {
  await studio.close();
}
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`);

/** Single pictures, what the VAE loses, and clips between given ends: the fixture's own. */
async function scoreTheRest(): Promise<void> {
  report['pictures'] = await scorePrompts(
    studio,
    items.filter(({ item }) => item.kind === 'picture'),
    'image',
  );
  const moving = items
    .filter(({ item }) => item.kind === 'clip')
    .slice(0, Number(values.ends))
    .map(({ item, index }) => ({ item, index, clip: drawClip(item, frames) }));
  const coded = await Promise.all(moving.map(({ clip }) => studio.throughVae(clip)));
  const limit = vaeLimit(moving, coded);
  report['true clips through the VAE'] = limit;
  print('true clips through the VAE', limit);
  for (const ends of [['start'], ['end'], ['start', 'end']] as const) {
    const measured = await measureEnds(studio, moving, ends, coded);
    report[ends.join(' and ')] = measured;
    print(`given ${ends.join(' and ')}`, measured);
  }
}

/** Prompts in ways to write that no training knows. */
async function structured(): Promise<HeldOutClip[]> {
  return (await clipPrompts()).map(({ prompt, objects: [object], background, motion, speed }) => ({
    kind: 'clip',
    prompt,
    ...object,
    ...(background === undefined ? {} : { background }),
    motion: motion ?? null,
    speed: speed ?? null,
  }));
}

async function scorePrompts({ make }: Studio, some: typeof items, output: 'video' | 'image') {
  const wrongs: ClipItem[][] = [];
  let seconds = 0;
  for (const { item, index } of some) {
    const made = await make(item.prompt, 1000 + index, output);
    const wrong = judgeClip(item, made.frames);
    wrongs.push(wrong);
    seconds += made.seconds;
    if (wrong.length > 0) console.log(`${item.kind}: ${item.prompt}: ${wrong.join(', ')}`);
    if (values.keep !== undefined) {
      await mkdir(values.keep, { recursive: true });
      await cp(made.file, path.join(values.keep, `${index}${path.extname(made.file)}`));
    }
  }
  const right = (bad: (wrong: ClipItem[]) => boolean) =>
    percent(wrongs.filter((wrong) => !bad(wrong)).length, wrongs.length);
  const score = {
    count: wrongs.length, // the gate leaves the speed out
    all: right((wrong) => wrong.some((each) => each !== 'speed')),
    ...Object.fromEntries(
      (['background', 'colour', 'shape', 'motion', 'speed'] as const).map((each) => [
        each,
        right((wrong) => wrong.includes(each)),
      ]),
    ),
    secondsEach: Number((seconds / Math.max(1, wrongs.length)).toFixed(2)),
  };
  print(output === 'video' ? `clips of ${frames} frames` : 'single pictures', score);
  return score;
}

type Moving = Array<{ item: HeldOutClip; index: number; clip: Pixels[] }>;

function vaeLimit(moving: Moving, coded: Pixels[][]) {
  const right = moving.filter(({ item }, i) =>
    judgeClip(item, coded[i] as Pixels[]).every((each) => each === 'speed'),
  ).length;
  return {
    count: moving.length,
    all: percent(right, moving.length),
    firstDb: median(moving.map(({ clip }, i) => psnr(coded[i]?.[0] as Pixels, clip[0] as Pixels))),
    lastDb: median(moving.map(({ clip }, i) => psnr(coded[i]?.at(-1) as Pixels, clip.at(-1) as Pixels))),
    jump: mean(coded.map(largestJump)),
    jumpOfTrueClips: mean(moving.map(({ clip }) => largestJump(clip))),
  };
}

async function measureEnds(
  { make }: Studio,
  moving: Moving,
  ends: readonly ('start' | 'end')[],
  coded: Pixels[][],
) {
  const made: Array<{ first: number; last: number; jump: number; right: boolean }> = [];
  for (const { item, index, clip } of moving) {
    const [start, end] = [clip[0] as Pixels, clip.at(-1) as Pixels];
    const { frames: shown } = await make(item.prompt, 1000 + index, 'video', {
      ...(ends.includes('start') ? { start } : {}),
      ...(ends.includes('end') ? { end } : {}),
    });
    made.push({
      first: psnr(shown[0] as Pixels, start),
      last: psnr(shown.at(-1) as Pixels, end),
      jump: largestJump(shown),
      right: judgeClip(item, shown).every((each) => each === 'speed'),
    });
  }
  const share = (of: (each: (typeof made)[number]) => boolean) =>
    percent(made.filter(of).length, made.length);
  return {
    count: made.length,
    all: share(({ right }) => right),
    ...(ends.includes('start')
      ? { firstDb: median(made.map(({ first }) => first)), firstAtLeast25: share(({ first }) => first >= 25) }
      : {}),
    ...(ends.includes('end')
      ? { lastDb: median(made.map(({ last }) => last)), lastAtLeast25: share(({ last }) => last >= 25) }
      : {}),
    jumpRatio: Number((mean(made.map(({ jump }) => jump)) / mean(coded.map(largestJump))).toFixed(2)),
  };
}

function print(title: string, fields: Record<string, number>): void {
  console.log(
    `${title.padEnd(28)} ${Object.entries(fields)
      .map(([name, value]) => `${name} ${value}`)
      .join('  ')}`,
  );
}

function percent(part: number, whole: number): number {
  return Number(((100 * part) / Math.max(1, whole)).toFixed(1));
}

function mean(numbers: readonly number[]): number {
  return Number((numbers.reduce((sum, value) => sum + value, 0) / Math.max(1, numbers.length)).toFixed(3));
}

function median(numbers: readonly number[]): number {
  return Number(([...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN).toFixed(1));
}
