import sharp from 'sharp';
import { palette } from './picture.js';

/** A drawn thing of the pocket world: colour, form, centre and half extent in pixels of a 128×128 picture. */
export interface Thing {
  colour: string;
  shape: string;
  x: number;
  y: number;
  radius: number;
}
export interface Scene {
  background: string;
  things: Thing[];
}

/** Of references and negatives, which are measured in the world's first colours and shapes. */
export const colours = Object.keys(palette).slice(0, 8);
export const shapes = ['circle', 'square', 'triangle', 'star', 'heart'];

/** mulberry32: the same pairs on every machine. */
export function randomFrom(seed: number) {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (low: number, high: number) => low + (high - low) * next();
  function pick<T>(list: readonly T[], without: readonly T[] = []): T {
    const left = list.filter((item) => !without.includes(item));
    return left[Math.floor(next() * left.length)] as T;
  }
  return { next, between, pick };
}

/**
 * The scene as PNG bytes, drawn as vectors: nothing of it comes from the code that drew the training's
 * pictures.
 */
export async function drawScene({ background, things }: Scene): Promise<Buffer> {
  const fill = (name: string) => `rgb(${(palette[name] ?? [0, 0, 0]).join(',')})`;
  const drawn = things.map(
    ({ colour, shape, x, y, radius: r }) =>
      `<g transform="translate(${x} ${y})" fill="${fill(colour)}" color="${fill(colour)}">${outlines[shape]?.(r) ?? ''}</g>`,
  );
  return sharp(
    Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128"><rect width="128" height="128" fill="${fill(background)}"/>${drawn.join('')}</svg>`,
    ),
  )
    .removeAlpha()
    .png()
    .toBuffer();
}

const polygon = (points: ReadonlyArray<readonly [number, number]>) =>
  `<polygon points="${points.map(([x, y]) => `${x.toFixed(2)},${y.toFixed(2)}`).join(' ')}"/>`;
const ring = (count: number, radius: (i: number) => number) =>
  Array.from({ length: count }, (_, i) => {
    const angle = (i / count) * 2 * Math.PI;
    return [Math.sin(angle) * radius(i), -Math.cos(angle) * radius(i)] as const;
  });

const outlines: Readonly<Record<string, (r: number) => string>> = {
  circle: (r) => `<circle r="${r}"/>`,
  square: (r) => `<rect x="${-0.88 * r}" y="${-0.88 * r}" width="${1.76 * r}" height="${1.76 * r}"/>`,
  triangle: (r) => polygon(ring(3, () => 1.24 * r).map(([x, y]) => [x, y + 0.18 * r])),
  star: (r) => polygon(ring(10, (i) => (i % 2 === 0 ? 1.25 : 0.56) * r)),
  ring: (r) => `<circle r="${0.8 * r}" fill="none" stroke="currentColor" stroke-width="${0.4 * r}"/>`,
  cross: (r) =>
    polygon(
      [
        [-1, -3],
        [1, -3],
        [1, -1],
        [3, -1],
        [3, 1],
        [1, 1],
        [1, 3],
        [-1, 3],
        [-1, 1],
        [-3, 1],
        [-3, -1],
        [-1, -1],
      ].map(([x = 0, y = 0]) => [(x * r) / 3, (y * r) / 3] as const),
    ),
  diamond: (r) => polygon(ring(4, () => 1.1 * r)),
  arrow: (r) =>
    polygon(
      [
        [-1.1, -0.3],
        [0.1, -0.3],
        [0.1, -0.85],
        [1.2, 0],
        [0.1, 0.85],
        [0.1, 0.3],
        [-1.1, 0.3],
      ].map(([x = 0, y = 0]) => [x * r, y * r] as const),
    ),
  // (x² + y² - 1)³ = x² y³, walked along its angle
  heart: (r) =>
    polygon(
      Array.from({ length: 72 }, (_, i) => {
        const angle = (i / 72) * 2 * Math.PI;
        let [low, high] = [0, 2];
        for (let step = 0; step < 30; step += 1) {
          const rho = (low + high) / 2;
          const [x, y] = [rho * Math.cos(angle), rho * Math.sin(angle)];
          if ((x * x + y * y - 1) ** 3 - x * x * y ** 3 < 0) low = rho;
          else high = rho;
        }
        return [
          0.95 * r * low * Math.cos(angle),
          0.08 * r - 0.95 * r * (low * Math.sin(angle) - 0.1),
        ] as const;
      }),
    ),
};
