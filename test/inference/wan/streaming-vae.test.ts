import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import t from 'tap';
import { ownProgram } from '../../../src/lib/processes.js';
import { heldBytes, openTiny } from './support.js';
import { requireCommand } from '../../helpers/requirements.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { latentShape } from '../../../src/inference/wan/latents.js';
import { createCausalStream, decodeClip, encodeClip } from '../../../src/inference/wan/vae.js';
import { largestDifference } from '../../../tools/parity/measure.js';

const side = 64;

t.test('a longer clip begins as the shorter one: what comes later changes nothing before it', async (t) => {
  const model = await openTiny(t);
  const shape = latentShape(model, { width: side, height: side, frames: 17 });
  const latents = createGenerator(3).randn(shape.channels * shape.frames * shape.height * shape.width);
  const area = shape.height * shape.width;
  const head = new Float32Array(shape.channels * 2 * area);
  for (let c = 0; c < shape.channels; c += 1)
    head.set(latents.subarray(c * shape.frames * area, c * shape.frames * area + 2 * area), c * 2 * area);
  const decode = async (values: Float32Array, frames: number) => {
    const chunks: Float32Array[] = [];
    await decodeClip(model, values, { ...shape, frames }, async (chunk) => {
      chunks.push(chunk);
    });
    return chunks;
  };
  const [whole, part] = [await decode(latents, 5), await decode(head, 2)];
  t.same(
    whole.map(({ length }) => length / (3 * side * side)),
    [1, 4, 4, 4, 4],
    'one frame, then four for each latent frame',
  );
  for (const i of [0, 1])
    t.equal(largestDifference(whole[i] as Float32Array, part[i] as Float32Array), 0, `chunk ${i}`);
});

t.test('two clips at once keep their own caches', async (t) => {
  const model = await openTiny(t);
  const noise = (seed: number) => ({ data: createGenerator(seed).randn(16 * 64), dims: [1, 16, 8, 8] });
  const graphs = model.vaeDecoder;
  if ('clip' in graphs) throw new Error('a CPU decodes in steps');
  const open = () => createCausalStream(graphs, 'latent_frame', 'video_frames');
  const alone = async (seeds: number[]) => {
    const stream = open();
    const out: Float32Array[] = [];
    for (const seed of seeds) out.push((await stream.next(noise(seed))).data);
    stream.release();
    return out;
  };
  const expected = [await alone([1, 2, 3, 4]), await alone([5, 6, 7, 8])];
  const [a, b] = [open(), open()];
  for (let i = 0; i < 4; i += 1) {
    t.equal(
      largestDifference((await a.next(noise(1 + i))).data, expected[0]?.[i] as Float32Array),
      0,
      `first clip, chunk ${i}`,
    );
    t.equal(
      largestDifference((await b.next(noise(5 + i))).data, expected[1]?.[i] as Float32Array),
      0,
      `second clip, chunk ${i}`,
    );
  }
  a.release();
  t.equal(
    largestDifference((await a.next(noise(1))).data, expected[0]?.[0] as Float32Array),
    0,
    'after release a new clip begins',
  );
  a.release();
  b.release();
});

t.test('a clip holds no more tensors at its end than near its beginning', async (t) => {
  const model = await openTiny(t);
  const held = async () => (await heldBytes(5)).tensors;
  const grown = (bytes: number[]) => Math.min(...bytes.slice(-4)) - Math.min(...bytes.slice(2, 6));
  const shape = latentShape(model, { width: side, height: side, frames: 41 });
  const latents = createGenerator(4).randn(shape.channels * shape.frames * shape.height * shape.width);
  const decoding: number[] = [];
  await decodeClip(model, latents, shape, async () => {
    decoding.push(await held());
  });
  t.equal(decoding.length, 11);
  t.ok(grown(decoding) < 50_000, `decoding: ${decoding.join(' ')} bytes`);
  const encoding: number[] = [];
  await encodeClip(
    model,
    41,
    { width: side, height: side },
    (frame) => new Float32Array(3 * side * side).fill(Math.sin(frame)),
    async () => {
      encoding.push(await held());
    },
  );
  // 7 latent frames of 16·8·8 floats are the result itself
  t.ok(grown(encoding) < 50_000, `encoding: ${encoding.join(' ')} bytes`);
});

t.test(
  '81 frames take at most 1.15 times the memory of 21',
  { skip: requireCommand('ffmpeg') || (process.platform === 'linux' ? false : 'reads /proc') },
  async (t) => {
    const program = ownProgram('test/inference/wan/peak-memory');
    // glibc otherwise raises this threshold as it goes and keeps large blocks it was given back: a fifth more
    // or less from run to run.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '65536' };
    const peakOf = async (frames: number) => {
      const { stdout } = await promisify(execFile)(process.execPath, [...program, String(frames), '128'], {
        env,
      });
      const report = JSON.parse(stdout) as { before: number; peak: number; frames: number };
      t.equal(report.frames, frames);
      t.ok(
        report.peak > report.before + 20e6,
        `decoding takes memory worth measuring: ${report.before} to ${report.peak} bytes`,
      );
      return report.peak;
    };
    const [short, long] = [await peakOf(21), await peakOf(81)];
    t.ok(
      long <= 1.15 * short,
      `${short} bytes for 21 frames, ${long} for 81: ${(long / short).toFixed(3)} times`,
    );
  },
);
