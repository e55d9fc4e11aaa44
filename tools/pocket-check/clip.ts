import { formOf, type Mask } from './clip-forms.js';
import { classify, palette, paletteNames, type Pixels } from './picture.js';

/** What a prompt of the pocket video world states (test/fixtures/pocket-wan.json). */
export interface HeldOutClip {
  kind: 'clip' | 'picture' | 'day to night';
  prompt: string;
  colour?: string;
  shape?: string;
  background?: string;
  motion?: string | null;
  speed?: 'slow' | 'fast' | null;
  drawn?: DrawnClip;
}

/**
 * One true clip of a prompt in numbers: pixels, radians, a natural logarithm (`growth`) and colours 0–255;
 * see tools/pocket/wan/world.py.
 */
export interface DrawnClip {
  x: number;
  y: number;
  dx: number;
  dy: number;
  radius: number;
  growth: number;
  orbit_radius: number;
  orbit_start: number;
  orbit_turn: number;
  blink_groups: number;
  colour: readonly number[];
  ground: readonly number[];
}

export type ClipItem = 'background' | 'colour' | 'shape' | 'motion' | 'speed';

interface Look {
  background: string;
  shape: { colour: string; mask: Mask; area: number; x: number; y: number } | null;
}

/** Smaller regions are noise. */
const leastArea = 50;

/**
 * What a clip of 64×64 frames shows wrongly: nearest palette colour, overlap with ideal forms, path of
 * centroid, area and visibility. The same rules as tools/pocket/wan/check.py, which judges during training;
 * shares no code with the drawing.
 */
export function judgeClip(item: HeldOutClip, frames: readonly Pixels[]): ClipItem[] {
  if (item.kind === 'day to night') return darkening(frames) > 60 ? [] : ['motion'];
  const seen = frames.map(look);
  const shown = seen.flatMap(({ shape }) => (shape === null ? [] : [shape]));
  const wrong: ClipItem[] = [];
  const { background } = item;
  if (background !== undefined && mostFrequent(seen.map((each) => each.background)) !== background)
    wrong.push('background');
  if (mostFrequent(shown.map(({ colour }) => colour)) !== item.colour) wrong.push('colour');
  if (mostFrequent(shown.map(({ mask }) => formOf(mask))) !== item.shape) wrong.push('shape');
  if (item.motion && frames.length > 1) {
    const { motion, fast } = motionOf(seen);
    if (motion !== item.motion) wrong.push('motion');
    else if (item.speed && motion !== 'still' && fast !== (item.speed === 'fast')) wrong.push('speed');
  }
  return wrong;
}

/** Background and the one shape of a frame; null when there is none. */
function look(picture: Pixels): Look {
  const { data, width, height } = picture;
  const classes = classify(picture);
  const border = new Array<number>(paletteNames.length).fill(0);
  for (let i = 0; i < classes.length; i += 1) {
    const [x, y] = [i % width, Math.floor(i / width)];
    // Corners count twice, as the rows and columns of the border overlap there.
    const times = (y < 2 || y >= height - 2 ? 1 : 0) + (x < 2 || x >= width - 2 ? 1 : 0);
    border[classes[i] as number] = (border[classes[i] as number] as number) + times;
  }
  const ground = border.indexOf(Math.max(...border));
  const background = paletteNames[ground] as string;
  const distance = (i: number, [r, g, b]: readonly [number, number, number]) =>
    Math.hypot((data[i * 3] as number) - r, (data[i * 3 + 1] as number) - g, (data[i * 3 + 2] as number) - b);
  const cells = Array.from(classes.keys());
  const medianOf = (indices: number[]) =>
    [0, 1, 2].map((channel) => median(indices.map((i) => data[i * 3 + channel] as number))) as [
      number,
      number,
      number,
    ];
  // Edges blend into third colours: the shape is what is nearer to it than to the ground.
  const back = medianOf(cells.filter((i) => classes[i] === ground));
  const rough = largestBlob({
    cells: Uint8Array.from(cells, (i) => (distance(i, back) > 40 ? 1 : 0)),
    width,
    height,
  });
  if (rough.length < leastArea) return { background, shape: null };
  const counts = new Array<number>(paletteNames.length).fill(0);
  for (const i of rough)
    if (classes[i] !== ground) counts[classes[i] as number] = (counts[classes[i] as number] as number) + 1;
  const most = Math.max(...counts);
  const colour = counts.indexOf(most);
  const own =
    most > 0
      ? medianOf(rough.filter((i) => classes[i] === colour))
      : (palette[paletteNames[colour] as string] as readonly [number, number, number]);
  const blob = largestBlob({
    cells: Uint8Array.from(cells, (i) => (distance(i, own) < distance(i, back) ? 1 : 0)),
    width,
    height,
  });
  if (blob.length < leastArea) return { background, shape: null };
  const mask = new Uint8Array(width * height);
  for (const i of blob) mask[i] = 1;
  return {
    background,
    shape: {
      colour: paletteNames[colour] as string,
      mask: { cells: mask, width, height },
      area: blob.length,
      x: mean(blob.map((i) => i % width)),
      y: mean(blob.map((i) => Math.floor(i / width))),
    },
  };
}

/** Cells of the largest region whose cells touch by their sides. */
function largestBlob({ cells, width, height }: Mask): number[] {
  const seen = new Uint8Array(cells.length);
  let best: number[] = [];
  for (let start = 0; start < cells.length; start += 1) {
    if (cells[start] === 0 || seen[start] === 1) continue;
    const region: number[] = [];
    const stack = [start];
    seen[start] = 1;
    for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
      region.push(i);
      const [x, y] = [i % width, Math.floor(i / width)];
      for (const [nx, ny] of [
        [x - 1, y],
        [x + 1, y],
        [x, y - 1],
        [x, y + 1],
      ] as const) {
        const next = ny * width + nx;
        if (nx < 0 || ny < 0 || nx >= width || ny >= height || cells[next] === 0 || seen[next] === 1)
          continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    if (region.length > best.length) best = region;
  }
  return best;
}

/** Motion and whether it is a fast one; thresholds are for 17 frames of 64×64. */
function motionOf(seen: readonly Look[]): { motion: string; fast: boolean | null } {
  const there = seen.map(({ shape }) => shape !== null);
  const shown = seen.flatMap(({ shape }) => (shape === null ? [] : [shape]));
  if (shown.length < seen.length)
    return { motion: 'blink', fast: there.filter((each, i) => i > 0 && each !== there[i - 1]).length > 2 };
  const ends = (values: number[]) => [mean(values.slice(0, 2)), mean(values.slice(-2))] as const;
  const [x, y] = [shown.map((each) => each.x), shown.map((each) => each.y)];
  const [[x0, x1], [y0, y1], [area0, area1]] = [ends(x), ends(y), ends(shown.map(({ area }) => area))];
  const [dx, dy] = [x1 - x0, y1 - y0];
  const growth = Math.log(Math.sqrt(area1 / area0));
  const way = shown.reduce(
    (sum, { x: px, y: py }, i) =>
      sum + (i === 0 ? 0 : Math.hypot(px - (x[i - 1] as number), py - (y[i - 1] as number))),
    0,
  );
  const middle = Math.floor(shown.length / 2);
  if (Math.abs(growth) > 0.15 && way < 12)
    return { motion: growth > 0 ? 'grow' : 'shrink', fast: Math.abs(growth) > 0.48 };
  if (Math.hypot(dx, dy) > 5 || way > 12) {
    const bend = Math.hypot((x[middle] as number) - (x0 + x1) / 2, (y[middle] as number) - (y0 + y1) / 2);
    if (bend > 4) return { motion: 'orbit', fast: bend > 10.5 };
    if (Math.abs(dx) > Math.abs(dy)) return { motion: dx < 0 ? 'left' : 'right', fast: Math.abs(dx) > 18.5 };
    return { motion: dy < 0 ? 'up' : 'down', fast: Math.abs(dy) > 18.5 };
  }
  return { motion: 'still', fast: null };
}

/** How much darker the sky of the last three frames is than that of the first three, 0–255. */
function darkening(frames: readonly Pixels[]): number {
  const sky = (some: readonly Pixels[]) =>
    mean(some.map(({ data, width }) => mean(Array.from(data.subarray(2 * width * 3, 40 * width * 3)))));
  return sky(frames.slice(0, 3)) - sky(frames.slice(-3));
}

function mostFrequent(values: readonly string[]): string | null {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce<[string | null, number]>(
    (best, each) => (each[1] > best[1] ? each : best),
    [null, 0],
  )[0];
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1
    ? (sorted[Math.floor(middle)] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
