import {
  backgroundOf,
  blobsOf,
  classify,
  nameOf,
  shapeOf,
  thinForms,
  type Blob,
  type Pixels,
} from './picture.js';

const thin = new Set(Object.keys(thinForms).map(nameOf));

/** A held-out prompt with what it states (test/fixtures/pocket-sdxl.json). */
export interface HeldOut {
  kind: 'one' | 'two' | 'several' | 'landscape' | 'unseen pair' | 'clip' | 'scene' | 'outside';
  prompt: string;
  objects: Array<{ colour: string; shape: string; size?: string | null; place?: string | null }>;
  /** Absent: none is stated, and any will do. */
  background?: string;
  relation?: string;
  sky?: 'day' | 'sunset' | 'night';
  light?: 'left' | 'right' | 'centre';
  ground?: 'hills' | 'sea';
  clouds?: boolean;
}

/** What the picture shows wrongly; empty when everything stated is right. */
export function judge(item: HeldOut, picture: Pixels): string[] {
  return item.kind === 'landscape' ? judgeLandscape(item, picture) : judgeObjects(item, picture);
}

function judgeObjects(item: HeldOut, picture: Pixels): string[] {
  const wrong: string[] = [];
  const classes = classify(picture);
  const background = backgroundOf(classes, picture.width, picture.height);
  if (item.background !== undefined && background !== item.background) wrong.push(`background ${background}`);
  const blobs = blobsOf(classes, picture.width, picture.height, background);
  if (blobs.length !== item.objects.length) return [...wrong, `${blobs.length} objects`];
  // Side by side without a relation: whichever way round fits.
  const ways =
    item.relation === undefined && blobs.length === 2 ? [blobs, blobs.toReversed()] : [order(blobs, item)];
  const faults = ways.map((ordered) => compare(ordered, item, picture.width));
  return [...wrong, ...(faults.sort((a, b) => a.length - b.length)[0] ?? [])];
}

function compare(ordered: Blob[], item: HeldOut, width: number): string[] {
  const wrong: string[] = [];
  ordered.forEach((blob, i) => {
    const wanted = item.objects[i] as HeldOut['objects'][number];
    if (blob.colour !== wanted.colour) wrong.push(`colour ${blob.colour}`);
    const shape = shapeOf(blob, width);
    if (shape !== wanted.shape) wrong.push(`shape ${shape}`);
    const area = solidArea(blob, wanted.shape);
    if (wanted.size === 'small' && area > 950) wrong.push(`size ${area}`);
    if (wanted.size === 'large' && area < 800) wrong.push(`size ${area}`);
    if (wanted.place && placeOf(blob) !== wanted.place) wrong.push(`place ${placeOf(blob)}`);
  });
  return wrong;
}

/** A form of thin parts is as large as the disc around it, less a fifth, as a star of the world is. */
function solidArea({ area, box }: Blob, shape: string): number {
  if (!thin.has(shape)) return area;
  const radius = Math.max(box.right - box.left + 1, box.bottom - box.top + 1) / 2;
  return Math.round(0.8 * Math.PI * radius ** 2);
}

/** Objects of a relation in the order the prompt names them. */
export function order(blobs: Blob[], { relation }: HeldOut): Blob[] {
  const by =
    {
      above: (b: Blob) => b.y,
      below: (b: Blob) => -b.y,
      'left of': (b: Blob) => b.x,
      'right of': (b: Blob) => -b.x,
    }[relation ?? ''] ?? ((b: Blob) => b.x);
  return [...blobs].sort((a, b) => by(a) - by(b));
}

function placeOf({ x, y }: Blob): string {
  const [dx, dy] = [x - 64, y - 64];
  if (Math.hypot(dx, dy) < 15) return 'centre';
  return Math.abs(dx) > Math.abs(dy) ? (dx < 0 ? 'left' : 'right') : dy < 0 ? 'top' : 'bottom';
}

function judgeLandscape(item: HeldOut, { data, width, height }: Pixels): string[] {
  const wrong: string[] = [];
  const at = (x: number, y: number) =>
    [0, 1, 2].map((c) => data[(y * width + x) * 3 + c] as number) as [number, number, number];
  const mean = (rows: [number, number]) => {
    const sum = [0, 0, 0];
    for (let y = rows[0]; y < rows[1]; y += 1)
      for (let x = 0; x < width; x += 1)
        at(x, y).forEach((value, c) => {
          sum[c] = (sum[c] as number) + value;
        });
    return sum.map((value) => value / ((rows[1] - rows[0]) * width)) as [number, number, number];
  };
  const [r, , b] = mean([50, 62]);
  const dark = mean([0, 40]).reduce((sum, value) => sum + value, 0) / 3 < 75;
  const sky = dark ? 'night' : r > b ? 'sunset' : 'day';
  if (sky !== item.sky) wrong.push(`sky ${sky}`);
  const low = mean([height - 14, height - 2]);
  const ground = low[1] > low[2] ? 'hills' : 'sea';
  if (ground !== item.ground) wrong.push(`ground ${ground}`);
  // sun: yellow; moon: the only bright thing at night
  let [count, sumX] = [0, 0];
  let white = 0;
  for (let y = 2; y < 62; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const [pr, pg, pb] = at(x, y);
      const lit = item.sky === 'night' ? pr > 150 && pg > 150 : pr > 220 && pg > 185 && pb < 165;
      if (lit) [count, sumX] = [count + 1, sumX + x];
      if (pr > 232 && pg > 235 && pb > 235) white += 1;
    }
  }
  const x = sumX / count;
  const place = count < 40 ? 'none' : x < 48 ? 'left' : x > 80 ? 'right' : 'centre';
  if (place !== item.light) wrong.push(`light ${place}`);
  if (item.clouds === true && white < 60) wrong.push('no clouds');
  return wrong;
}
