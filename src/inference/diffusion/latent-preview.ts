import type { Picture } from './pictures.js';

/**
 * Colours of latents without the decoder: RGB = matrix·latent + offset, one linear map for every position.
 */
export interface LatentPreview {
  render(latents: Float32Array, width: number, height: number): Picture;
}

/**
 * Fits the map by least squares from one decoded example, so that it suits whatever VAE the folder holds.
 * @param latents [channels, h, w]
 * @param decoded the decoder's output for them, [3, h·scale, w·scale] in [-1, 1]
 */
export function fitLatentPreview(
  latents: Float32Array,
  decoded: Float32Array,
  shape: { channels: number; width: number; height: number; scale: number },
): LatentPreview {
  const { channels, width, height, scale } = shape;
  const positions = width * height;
  const terms = channels + 1;
  const features = (at: number) =>
    Array.from({ length: terms }, (_, c) => (c === channels ? 1 : (latents[c * positions + at] as number)));
  // normal equations with a little ridge: (XᵀX + εI) B = XᵀY
  const left = Array.from({ length: terms }, (_, i) =>
    Array.from({ length: terms }, (_, j) => (i === j ? 1e-3 : 0)),
  );
  const right = Array.from({ length: terms }, () => [0, 0, 0]);
  for (let at = 0; at < positions; at += 1) {
    const x = features(at);
    const y = meanColour(decoded, at % width, Math.floor(at / width), width * scale, height * scale, scale);
    for (let i = 0; i < terms; i += 1) {
      for (let j = 0; j < terms; j += 1)
        (left[i] as number[])[j] = ((left[i] as number[])[j] as number) + (x[i] as number) * (x[j] as number);
      for (let k = 0; k < 3; k += 1)
        (right[i] as number[])[k] =
          ((right[i] as number[])[k] as number) + (x[i] as number) * (y[k] as number);
    }
  }
  const map = solve(left, right);
  return {
    render(current, w, h) {
      const data = new Uint8ClampedArray(w * h * 3);
      for (let at = 0; at < w * h; at += 1) {
        for (let k = 0; k < 3; k += 1) {
          let value = (map[channels] as number[])[k] as number;
          for (let c = 0; c < channels; c += 1)
            value += ((map[c] as number[])[k] as number) * (current[c * w * h + at] as number);
          data[at * 3 + k] = (value / 2 + 0.5) * 255;
        }
      }
      return { data: new Uint8Array(data.buffer), width: w, height: h };
    },
  };
}

function meanColour(
  decoded: Float32Array,
  column: number,
  row: number,
  width: number,
  height: number,
  scale: number,
): number[] {
  return [0, 1, 2].map((channel) => {
    let sum = 0;
    for (let y = row * scale; y < (row + 1) * scale; y += 1) {
      for (let x = column * scale; x < (column + 1) * scale; x += 1)
        sum += decoded[(channel * height + y) * width + x] as number;
    }
    return sum / scale ** 2;
  });
}

/** Gauss-Jordan elimination with row exchange; the matrices are 5 by 5. */
function solve(left: number[][], right: number[][]): number[][] {
  const size = left.length;
  const rows = left.map((row, i) => [...row, ...(right[i] as number[])]);
  for (let column = 0; column < size; column += 1) {
    let pivot = column;
    for (let i = column + 1; i < size; i += 1)
      if (
        Math.abs((rows[i] as number[])[column] as number) >
        Math.abs((rows[pivot] as number[])[column] as number)
      )
        pivot = i;
    [rows[column], rows[pivot]] = [rows[pivot] as number[], rows[column] as number[]];
    const own = rows[column] as number[];
    const factor = own[column] as number;
    rows[column] = own.map((value) => value / factor);
    for (let i = 0; i < size; i += 1) {
      if (i === column) continue;
      const scale = (rows[i] as number[])[column] as number;
      rows[i] = (rows[i] as number[]).map(
        (value, k) => value - scale * ((rows[column] as number[])[k] as number),
      );
    }
  }
  return rows.map((row) => row.slice(size));
}
