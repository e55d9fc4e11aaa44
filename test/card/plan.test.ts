import { open, mkdir } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { createGpuMonitor } from '../../src/services/card/gpu-monitor.js';
import { expectedFootprints } from '../../src/services/card/index.js';
import { checkCardPlan } from '../../src/services/operations/model-checks.js';
import { gibibyte } from '../../src/lib/units.js';

/** A file of that size that takes no room, with a header that says what it would hold. */
async function sparse(file: string, bytes: number, dtype?: 'F16' | 'F32'): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const handle = await open(file, 'w');
  const header = Buffer.from(JSON.stringify({ weight: { dtype, shape: [], data_offsets: [0, bytes] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  if (dtype !== undefined) await handle.write(Buffer.concat([length, header]));
  await handle.truncate(bytes + (dtype === undefined ? 0 : 8 + header.length));
  await handle.close();
}

t.test(
  'what a card of 48, 24, 16 and 12 GB does with the full-size models is said before the first job',
  async (t) => {
    const dir = t.testdir();
    // as their publishers have them: SDXL in fp16, Wan's transformer and text encoder in float32
    await sparse(path.join(dir, 'sdxl/unet/diffusion_pytorch_model.fp16.safetensors'), 6.94e9, 'F16');
    await sparse(path.join(dir, 'wan/transformer/diffusion_pytorch_model.safetensors'), 5.7e9, 'F32');
    await sparse(path.join(dir, 'wan/text_encoder/model.safetensors'), 22.7e9, 'F32');
    await sparse(path.join(dir, 'wan/packed/transformer-model-cuda.safetensors'), 2.85e9, 'F16');
    await sparse(path.join(dir, 'qwen/qwen2.5-7b-instruct-q4_k_m.gguf'), 4.68e9);
    const folders = {
      sdxl: { dir: path.join(dir, 'sdxl') },
      wan: { dir: path.join(dir, 'wan') },
      qwen: { dir: path.join(dir, 'qwen') },
    };
    const said = async (gigabytes: number) => {
      const reading = {
        name: 'card',
        usedBytes: null,
        utilization: null,
        temperatureCelsius: null,
        powerWatts: null,
        driver: null,
      };
      const read = async () => ({ ...reading, totalBytes: gigabytes * gibibyte });
      const gpu = createGpuMonitor({ probes: [{ source: 'test', read }] });
      const findings = await checkCardPlan(gpu, folders)(new AbortController().signal);
      return findings.map(
        ({ subject, severity, message }) => `${severity} ${subject.split(' ')[0]}: ${message}`,
      );
    };
    const sdxl = '7.5GB loaded, 14.5GB while it computes';
    const wan = '14.9GB loaded, 26.9GB while it computes';
    const qwen = '5.2GB loaded, 6.7GB while it computes';
    t.same(await said(48), [
      `ok sdxl: ${sdxl}, of 48GB`,
      `ok wan: ${wan}, of 48GB`,
      `ok qwen: ${qwen}, of 48GB`,
      'ok models: sdxl, wan, qwen stay loaded and compute one after the other',
    ]);
    t.same(await said(24), [
      `ok sdxl: ${sdxl}, of 24GB`,
      `warning wan: ${wan}, of 24GB: clips of 81 frames of 832 × 480 may run out of memory`,
      `ok qwen: ${qwen}, of 24GB`,
      'ok models: sdxl, qwen stay loaded and compute at the same time',
    ]);
    t.match(await said(16), [
      `ok sdxl: ${sdxl}, of 16GB`,
      /^warning wan: /,
      `ok qwen: ${qwen}, of 16GB`,
      'ok models: sdxl, qwen take turns: one leaves the card when another has work',
    ]);
    t.match(await said(12), [
      `warning sdxl: ${sdxl}, of 12GB: pictures are decoded in tiles where memory runs out, and several of a job drawn one by one`,
      `warning wan: ${wan}, of 12GB: it will hardly load`,
      `ok qwen: ${qwen}, of 12GB`,
    ]);
    const { sdxl: needs } = await expectedFootprints(['sdxl'], folders);
    t.ok(Math.abs((needs?.residentBytes ?? 0) - (1.1 * 6.94e9 + 0.4 * gibibyte)) < 1e6);
    const silent = createGpuMonitor({ probes: [] });
    t.same(await checkCardPlan(silent, folders)(new AbortController().signal), [], 'no card, no plan');
  },
);
