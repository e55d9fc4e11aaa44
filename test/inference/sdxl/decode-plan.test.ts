import t from 'tap';
import { decodePlan, largestDecode } from '../../../src/inference/sdxl/tiled-decode.js';

const gib = 2 ** 30;
const tile = (device: 'cpu' | 'webgpu', pixels: number, cardBytes: number | null, channels = 128) =>
  decodePlan(pixels, 8, largestDecode(device, channels, cardBytes))?.tile ?? 'whole';

t.test('the CPU decodes up to 1536 square at once, whatever a card has', (t) => {
  t.equal(tile('cpu', 1536 ** 2, 8 * gib), 'whole');
  t.equal(tile('cpu', 1536 * 1544, null), 128);
  t.end();
});

t.test('WebGPU takes half of the card at most', (t) => {
  t.equal(tile('webgpu', 1024 ** 2, 80 * gib), 'whole');
  t.equal(tile('webgpu', 1536 ** 2, 80 * gib), 128, 'tiles of what fits');
  t.equal(tile('webgpu', 1024 ** 2, 24 * gib), 64);
  t.equal(tile('webgpu', 512 ** 2, 24 * gib), 'whole');
  t.equal(tile('webgpu', 1024 ** 2, null), 64, 'a card that tells nothing is taken for a small one');
  t.equal(tile('webgpu', 512 ** 2, null, 32), 'whole', 'a small model needs little');
  t.end();
});

t.test('what is planned stays below the share, by the measure at 1024 square (28 GB)', (t) => {
  const neededBytes = (side: number) => (28.2e9 * side ** 2) / 1024 ** 2;
  for (const card of [16, 24, 40, 48, 80])
    t.ok(
      neededBytes(Math.sqrt(largestDecode('webgpu', 128, card * gib))) <= 0.51 * card * gib,
      `${card} GiB`,
    );
  t.end();
});
