import type { Device } from '../engine-protocol.js';
import type { TileOptions } from './tiled-decode.js';

/** The decoder's memory grows with the area: about 8 GB in float32 at 1024² on a CPU, so larger pictures than 1536² go tile by tile. */
const largestWhole = 1536 * 1536;
/** WebGPU's convolutions spread their input out first: 28 GB at 1024² with 128 channels (docs/performance.md). */
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
  return Math.min(largestWhole, (shareOfCard * (deviceMemoryBytes ?? unknownCardBytes)) / (webgpuBytesPerPixelAndChannel * channels));
}

/** How a picture of so many pixels is decoded: null for whole, else the tiles. `scale`: pixels of a latent. */
export function decodePlan(pixels: number, scale: number, largest: number): TileOptions | null {
  if (pixels <= largest) return null;
  return (tiles.tile * scale) ** 2 <= largest ? tiles : smallTiles;
}
