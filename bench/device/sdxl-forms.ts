/**
 * SDXL's graphs in each form a device has, over the checkpoint and the passes that `full_size.py sdxl` left in DIR:
 *   node dist/bench/device/sdxl-forms.js --models DIR [--device cuda] [--passes 30] [--only unet,unet-plain,…]
 * First the checkpoint is imported (`ourvidz models import`). Each form has a process of its own, because the first passes of a process
 * are part of what is asked. Writes DIR/sdxl-forms-<device>.json after every form, so that a cut run still gives that.
 * Text encoders and the VAE's encoder are compared with their plain float32 form on the CPU.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import type { Device } from '../../src/inference/engine-protocol.js';
import { cudaLowering } from '../../src/inference/graphs/cuda.js';
import type { Form } from '../../src/inference/graphs/lowering.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import { openSession, type Values } from '../../src/inference/onnx/session.js';
import { percentile } from '../statistics.js';
import { withCudaLibraries } from './cuda-process.js';
import { compare, readStep } from './recorded-step.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    device: { type: 'string', default: 'cuda' },
    passes: { type: 'string', default: '30' },
    only: {
      type: 'string',
      default: 'unet,unet-plain,vae,vae-plain,text_encoder,text_encoder_2,vae_encoder',
    },
    // one form, in this process
    form: { type: 'string' },
  },
});
if (values.models === undefined) throw new Error('--models DIR is needed');
const folder = path.resolve(values.models);
const device = values.device as Device;
withCudaLibraries(device);
const imported = path.join(folder, 'imported');

if (values.form === undefined) await measureAll();
else process.stdout.write(`\n${JSON.stringify(await measure(values.form))}\n`);

async function measureAll(): Promise<void> {
  const file = path.join(folder, `sdxl-forms-${device}.json`);
  const report: Record<string, unknown> = { device };
  const keep = async (name: string, work: () => Promise<unknown>) => {
    report[name] = await work().catch((error: unknown) => ({ error: String(error).slice(0, 2000) }));
    process.stdout.write(`${name}: ${JSON.stringify(report[name])}\n`);
    await writeFile(file, `${JSON.stringify(report, null, 2)}\n`);
  };
  const run = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 2 ** 28 });
    return JSON.parse(stdout.slice(stdout.lastIndexOf('\n{') + 1)) as unknown;
  };
  const cli = path.resolve(import.meta.dirname, '../../src/cli/main.js');
  await keep('import', async () => {
    const source = path.join(folder, 'sdxl');
    const to = ['--as', 'sdxl', '--to', imported, '--force', '--json'];
    const args = [cli, 'models', 'import', source, ...to];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    return JSON.parse(stdout) as unknown;
  });
  for (const form of values.only.split(','))
    await keep(form, () => run(process.argv[1] as string, ...process.argv.slice(2), '--form', form));
}

async function measure(form: string): Promise<unknown> {
  const [name, variant] = form.split('-') as [string, string?];
  if (name === 'unet' || name === 'vae') {
    const step = await readStep(folder, `sdxl-${name}`);
    // without the layer norms that add residuals, and with attention in float32 where the rest is
    const lowering = cudaLowering({ skipLayerNorm: false });
    const other: Form | undefined =
      variant === 'plain' ? { lowering, type: name === 'unet' ? 'float16' : 'float' } : undefined;
    const { outputs, ...timing } = await time(step.graph, step.feeds, [step.output], other);
    const against = Object.entries(step.expected).map(([by, expected]) => [
      by,
      compare([outputs[step.output] as Float32Array], expected),
    ]);
    return { ...timing, against: Object.fromEntries(against) as unknown };
  }
  return againstCpu(name);
}

function pattern(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i * i * 0.37));
}

async function againstCpu(name: string): Promise<unknown> {
  const words = Array.from({ length: 77 }, (_, i) => (i === 0 ? 49_406 : i > 20 ? 49_407 : 300 + 17 * i));
  const feeds: Record<string, Values> =
    name === 'vae_encoder'
      ? { sample: { data: pattern(3 * 256 * 256), dims: [1, 3, 256, 256] } }
      : {
          input_ids: { data: words, dims: [1, 77] },
          attention_mask: { data: words.map(() => 1), dims: [1, 77] },
        };
  const outputs = {
    text_encoder: ['last_hidden_state'],
    text_encoder_2: ['text_embeds', 'last_hidden_state'],
    vae_encoder: ['latent_parameters'],
  }[name];
  if (outputs === undefined) throw new Error(`no form is called ${name}`);
  const { outputs: own, ...timing } = await time(`${name}/model`, feeds, outputs);
  const graph = await findModelGraphs('sdxl', path.join(imported, 'sdxl')).required(`${name}/model`, 'cpu');
  const session = await openSession(graph, { device: 'cpu', threads: 0 });
  const exact = await session.run(feeds, outputs);
  await session.release();
  const against = outputs.map((each) => [
    each,
    compare([own[each] as Float32Array], exact[each]?.data ?? new Float32Array()),
  ]);
  return { ...timing, against_cpu: Object.fromEntries(against) as unknown };
}

async function time(name: string, feeds: Record<string, Values>, outputs: readonly string[], form?: Form) {
  const seconds = (since: number) => (performance.now() - since) / 1000;
  const began = performance.now();
  let packed = 0;
  const graphs = findModelGraphs('sdxl', path.join(imported, 'sdxl'));
  const graph = await graphs.required(name, device, {
    onBytes: (done) => void (packed = done),
    ...(form === undefined || device !== 'cuda' ? {} : { form }),
  });
  const build_seconds = seconds(began);
  const opening = performance.now();
  const session = await openSession(graph, { device, threads: 0 });
  const open_seconds = seconds(opening);
  const passes: number[] = [];
  let results: Record<string, { data: Float32Array }> = {};
  for (let pass = 0; pass < Number(values.passes); pass += 1) {
    const started = performance.now();
    results = await session.run(feeds, outputs);
    passes.push(seconds(started));
  }
  await session.release();
  const late = passes.slice(Math.min(10, passes.length >> 1));
  return {
    build_seconds,
    packed_bytes: packed,
    open_seconds,
    first_pass_seconds: passes[0],
    first_passes_ms: passes.slice(0, 12).map((value) => Math.round(value * 10_000) / 10),
    median_ms: percentile(late, 0.5) * 1000,
    least_ms: Math.min(...late) * 1000,
    rss_bytes: process.memoryUsage().rss,
    outputs: Object.fromEntries(Object.entries(results).map(([key, { data }]) => [key, data])),
  };
}
