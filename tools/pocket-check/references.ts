import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ReferenceType } from '../../src/inference/generation.js';
import type { Painter } from './draw.js';
import { backgroundOf, blobsOf, classify, palette, shapeOf, type Blob, type Pixels } from './picture.js';
import { colours, drawScene, randomFrom, shapes, type Scene } from './scenes.js';

/** A reference and a prompt that leaves open just what the reference is for. */
export interface ReferencePair {
  type: ReferenceType;
  scene: Scene;
  prompt: string;
  place?: string;
}

const places: Readonly<Record<string, readonly [number, number]>> = {
  'on the left': [34, 64],
  'on the right': [94, 64],
  'at the top': [64, 34],
  'at the bottom': [64, 94],
  'in the centre': [64, 64],
};
const article = (words: string) => `a ${words}`;

/** Pairs of one mode, the same for every run. */
export function referencePairs(type: ReferenceType, count: number): ReferencePair[] {
  const { between, pick, next } = randomFrom({ composition: 101, style: 202, character: 303 }[type]);
  const thing = (
    at: readonly [number, number],
    taken: readonly string[],
    radius: readonly [number, number] = [14, 21],
  ) => ({
    colour: pick(colours, taken),
    shape: pick(shapes),
    x: at[0] + between(-5, 5),
    y: at[1] + between(-5, 5),
    radius: between(...radius),
  });
  const layout = (two: boolean) =>
    two
      ? pick([
          [
            [64, 34],
            [64, 94],
          ],
          [
            [34, 64],
            [94, 64],
          ],
        ] as const)
      : [pick(Object.values(places))];
  return Array.from({ length: count }, (_, i) => {
    const two = i % 2 === 1;
    const background = pick(colours);
    const things: Scene['things'] = [];
    for (const at of layout(two && type !== 'character'))
      things.push(thing(at, [background, ...things.map(({ colour }) => colour)], two ? [13, 19] : [14, 22]));
    const scene: Scene = { background, things };
    if (type === 'composition') {
      const other = pick(colours, [background]);
      const names: string[] = [];
      const taken = [other];
      for (let k = 0; k < things.length; k += 1) {
        const colour = pick(colours, taken);
        taken.push(colour);
        names.push(article(`${colour} ${pick(shapes)}`));
      }
      return { type, scene, prompt: `${names.join(' and ')} on a ${other} background` };
    }
    if (type === 'style') {
      const relation = pick(['above', 'below', 'left of', 'right of']);
      return {
        type,
        scene,
        prompt:
          next() < 0.5
            ? `${article(pick(shapes))} ${pick(Object.keys(places))}`
            : `${article(pick(shapes))} ${relation} ${article(pick(shapes))}`,
      };
    }
    const [subject] = things;
    const here =
      Object.keys(places).find(
        (name) =>
          Math.hypot(
            (places[name]?.[0] ?? 0) - (subject?.x ?? 0),
            (places[name]?.[1] ?? 0) - (subject?.y ?? 0),
          ) < 10,
      ) ?? '';
    const place = pick(Object.keys(places), [here]);
    return {
      type,
      scene,
      place,
      prompt: `a shape ${place} on a ${pick(colours, [background, subject?.colour ?? ''])} background`,
    };
  });
}

interface Seen {
  background: string;
  blobs: Blob[];
  border: readonly number[];
  width: number;
}

function look(picture: Pixels): Seen {
  const classes = classify(picture);
  const background = backgroundOf(classes, picture.width, picture.height);
  const sums = [0, 0, 0];
  for (let x = 0; x < picture.width; x += 1)
    for (let c = 0; c < 3; c += 1) sums[c] = (sums[c] ?? 0) + (picture.data[x * 3 + c] ?? 0);
  return {
    background,
    blobs: blobsOf(classes, picture.width, picture.height, background),
    border: sums.map((sum) => sum / picture.width),
    width: picture.width,
  };
}

/**
 * `kept`: the picture has the mode's own thing. `distance`: how far it is from it, a length or a difference
 * of colour; 0 is equal.
 */
export interface ReferenceScore {
  kept: boolean;
  distance: number;
}

/** Each mode's own measure of a picture, whatever it was drawn with. */
export function scoreReference({ type, scene, place }: ReferencePair, picture: Pixels): ReferenceScore {
  const seen = look(picture);
  const { blobs } = seen;
  const [subject] = scene.things;
  if (type === 'composition') {
    const nearest = scene.things.map(({ x, y }) =>
      Math.min(64, ...blobs.map((blob) => Math.hypot(blob.x - x, blob.y - y))),
    );
    return {
      kept: blobs.length === scene.things.length && nearest.every((distance) => distance < 12),
      distance: mean(nearest),
    };
  }
  if (type === 'style') {
    const wanted = palette[scene.background] ?? [0, 0, 0];
    const inPalette =
      blobs.length > 0 && blobs.every(({ colour }) => scene.things.some((thing) => thing.colour === colour));
    return {
      kept: seen.background === scene.background && inPalette,
      distance: Math.hypot(...wanted.map((value, c) => value - (seen.border[c] ?? 0))),
    };
  }
  const [largest] = blobs;
  const same =
    (largest?.colour === subject?.colour ? 1 : 0) +
    (largest !== undefined && shapeOf(largest, seen.width) === subject?.shape ? 1 : 0);
  const [px, py] = places[place ?? ''] ?? [64, 64];
  return {
    kept:
      same === 2 &&
      largest !== undefined &&
      blobs.length === 1 &&
      Math.hypot(largest.x - px, largest.y - py) < 16,
    distance: 2 - same,
  };
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

export interface ReferenceSummary {
  strength: number;
  kept: number;
  distance: number;
}

/** Draws every pair at each strength (0: without the reference), one seed a pair. */
export async function measureReferences(
  painter: Painter,
  pairs: readonly ReferencePair[],
  strengths: readonly number[],
  folder: string,
  keep = false,
): Promise<ReferenceSummary[]> {
  const scores = strengths.map((): ReferenceScore[] => []);
  for (const [index, pair] of pairs.entries()) {
    const file = path.join(folder, `reference-${pair.type}-${index}.png`);
    await writeFile(file, await drawScene(pair.scene));
    for (const [i, strength] of strengths.entries()) {
      const picture = await painter.draw({
        prompt: pair.prompt,
        seed: 4000 + index,
        ...(strength === 0 ? {} : { reference: { path: file, type: pair.type, strength } }),
      });
      scores[i]?.push(scoreReference(pair, picture));
      if (keep)
        await writeFile(
          path.join(folder, `drawn-${pair.type}-${index}-${strength}.png`),
          await picture.png(),
        );
    }
  }
  return strengths.map((strength, i) => ({
    strength,
    kept: mean((scores[i] ?? []).map(({ kept }) => (kept ? 1 : 0))),
    distance: mean((scores[i] ?? []).map(({ distance }) => distance)),
  }));
}
