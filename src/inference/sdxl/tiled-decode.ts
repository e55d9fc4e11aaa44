import type { Device } from '../engine-protocol.js';

/** One tile of a plane: where its latents lie, and the extent around them. */
interface Tile {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface TileOptions {
  /** Latents a side. */
  tile: number;
  /** Latents that neighbouring tiles share; the blend runs over them. */
  overlap: number;
}

/**
 * Start positions that cover `extent` with tiles of one size; the last one is moved back rather than made
 * smaller, because every tile must see as much around it.
 */
function starts(extent: number, { tile, overlap }: TileOptions): number[] {
  if (extent <= tile) return [0];
  const count = Math.ceil((extent - overlap) / (tile - overlap));
  return Array.from({ length: count }, (_, i) => Math.round((i * (extent - tile)) / (count - 1)));
}

/**
 * Decodes latents [C, h, w] tile by tile and blends the tiles where they overlap, each weighted by its
 * distance from its own border (the idea of diffusers' tiled VAE, autoencoder_kl.py, with weights that also
 * serve tiles of uneven spacing). Memory is that of one tile and of the picture.
 * @returns [3, h·scale, w·scale], as the decoder gives it
 */
export async function decodeTiled(
  latents: Float32Array,
  shape: { channels: number; height: number; width: number; scale: number },
  options: TileOptions,
  decode: (latents: Float32Array, tile: Tile) => Promise<Float32Array>,
): Promise<Float32Array> {
  const { channels, height, width, scale } = shape;
  const [outWidth, outHeight] = [width * scale, height * scale];
  const sum = new Float32Array(3 * outWidth * outHeight);
  const total = new Float32Array(outWidth * outHeight);
  const [tileWidth, tileHeight] = [Math.min(options.tile, width), Math.min(options.tile, height)];
  const ramp = options.overlap * scale;
  for (const y of starts(height, options)) {
    for (const x of starts(width, options)) {
      const tile: Tile = { x, y, width: tileWidth, height: tileHeight };
      const part = new Float32Array(channels * tileWidth * tileHeight);
      for (let row = 0; row < channels * tileHeight; row += 1) {
        const from = (Math.floor(row / tileHeight) * height + y + (row % tileHeight)) * width + x;
        part.set(latents.subarray(from, from + tileWidth), row * tileWidth);
      }
      const pixels = await decode(part, tile);
      const across = rampWeights(tileWidth * scale, ramp);
      const down = rampWeights(tileHeight * scale, ramp);
      const area = across.length * down.length;
      for (let py = 0; py < down.length; py += 1) {
        for (let px = 0; px < across.length; px += 1) {
          const weight = (down[py] as number) * (across[px] as number);
          const at = (y * scale + py) * outWidth + x * scale + px;
          total[at] = (total[at] as number) + weight;
          for (let c = 0; c < 3; c += 1) {
            const out = c * total.length + at;
            sum[out] = (sum[out] as number) + weight * (pixels[c * area + py * across.length + px] as number);
          }
        }
      }
    }
  }
  return sum.map((value, i) => value / (total[i % total.length] as number));
}

/**
 * 1 inside, falling towards both borders over `ramp` pixels, never 0: at the picture's own border one tile is
 * all there is.
 */
function rampWeights(length: number, ramp: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.min(1, (Math.min(i, length - 1 - i) + 0.5) / ramp));
}

/**
 * The decoder's memory grows with the area: about 8 GB in float32 at 1024² on a CPU, so larger pictures than
 * 1536² go tile by tile.
 */
const largestWhole = 1536 * 1536;
/**
 * WebGPU's convolutions spread their input out first: 28 GB at 1024² with 128 channels (docs/performance.md).
 */
const webgpuBytesPerPixelAndChannel = 210;
/** What a card is taken to have where nobody tells, and the share of it that one decode may take. */
const unknownCardBytes = 16 * 2 ** 30;
const shareOfCard = 0.5;

/** Latents a side: the 1024² that SDXL's decoder knows; a quarter of it where that does not fit. */
const tiles: TileOptions = { tile: 128, overlap: 32 };
export const smallTiles: TileOptions = { tile: 64, overlap: 16 };

/** Pixels that the decoder may take at once. `channels`: of its finest level. */
export function largestDecode(device: Device, channels: number, deviceMemoryBytes: number | null): number {
  if (device !== 'webgpu') return largestWhole;
  return Math.min(
    largestWhole,
    (shareOfCard * (deviceMemoryBytes ?? unknownCardBytes)) / (webgpuBytesPerPixelAndChannel * channels),
  );
}

/**
 * How a picture of so many pixels is decoded: null for whole, else the tiles. `scale`: pixels of a latent.
 */
export function decodePlan(pixels: number, scale: number, largest: number): TileOptions | null {
  if (pixels <= largest) return null;
  return (tiles.tile * scale) ** 2 <= largest ? tiles : smallTiles;
}
