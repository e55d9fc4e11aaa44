import type { Picture } from './pictures.js';
import { createGenerator } from './random.js';

/**
 * Colours of latents without the decoder: RGB = matrix·latent + offset, one linear map for every position.
 */
export interface LatentPreview {
  /**
   * One pixel for each latent.
   * @param width of the picture that the latents stand for, in pixels, as is `height`
   */
  render(latents: Float32Array, width: number, height: number): Picture;
}

interface LatentSpace {
  channels: number;
  /** Pixels a side of one latent. */
  scale: number;
}

/**
 * Learns the map from one decoded example, so that it suits whatever VAE the folder holds: soft blots of
 * every colour that latents can mean, `blots` a side.
 */
export async function learnLatentPreview(
  { channels, scale, blots }: LatentSpace & { blots: number },
  decode: (latents: Float32Array, side: number) => Promise<Float32Array>,
): Promise<LatentPreview> {
  const side = 16;
  const coarse = createGenerator(1).randn(channels * blots ** 2);
  const latents = Float32Array.from({ length: channels * side ** 2 }, (_, i) => {
    const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
    const blot = Math.floor((y * blots) / side) * blots + Math.floor((x * blots) / side);
    return coarse[c * blots ** 2 + blot] as number;
  });
  return fitLatentPreview(latents, await decode(latents, side), {
    channels,
    scale,
    width: side,
    height: side,
  });
}

/**
 * Fits the map by least squares.
 * @param latents [channels, h, w]
 * @param decoded the decoder's output for them, [3, h·scale, w·scale] in [-1, 1]
 */
function fitLatentPreview(
  latents: Float32Array,
  decoded: Float32Array,
  { channels, width, height, scale }: LatentSpace & { width: number; height: number },
): LatentPreview {
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
    render(current, pixelsWide, pixelsHigh) {
      const [w, h] = [pixelsWide / scale, pixelsHigh / scale];
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
