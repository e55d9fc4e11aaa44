/**
 * Compares the service's own code with a folder of recorded references, case by case.
 *   npm run parity -- [--kit DIR] [--models DIR] [--device cpu|webgpu|cuda]
 * The kit is test/parity/kit unless named, models are the exported ones in test/parity/models; the device is the
 * CPU. A GPU rounds differently: tolerances stay those of the CPU, so that the table shows
 * by how much. Exit code 1 when a case is out of tolerance, 2 when the kit cannot be read.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Device } from '../src/inference/engine-protocol.js';
import { openSdxlModel } from '../src/inference/sdxl/model.js';
import { openWanModel } from '../src/inference/wan/model.js';
import { projectRoot } from '../src/lib/project.js';
import { measureAdapters } from './parity/adapter.js';
import {
  measureCompel,
  measureNoise,
  measureSchedulers,
  measureTokens,
  readCases,
  type MeasuredCase,
} from './parity/parts.js';
import { measureSdxlCase, measureSdxlComponents, type SdxlCase } from './parity/sdxl.js';
import {
  measureT5Tokens,
  measureWanCase,
  measureWanText,
  measureWanTransformer,
  measureWanVae,
  type WanCase,
} from './parity/wan.js';

const { values } = parseArgs({
  options: {
    kit: { type: 'string', default: path.join(projectRoot(), 'test/parity/kit') },
    models: { type: 'string', default: path.join(projectRoot(), 'test/parity/models') },
    device: { type: 'string', default: 'cpu' },
  },
});
const device = values.device as Device;
const kit = path.resolve(values.kit);
const models = path.resolve(values.models);
if (!existsSync(kit)) {
  console.error(`There is no kit at ${kit}; name one with --kit DIR.`);
  process.exit(2);
}
const has = (name: string) => existsSync(path.join(kit, name));
let failed = 0;

function print(section: string, cases: MeasuredCase[]): void {
  console.log(`\n${section}`);
  for (const { name, measures } of cases) {
    const wrong = measures.filter(({ ok }) => !ok);
    failed += wrong.length > 0 ? 1 : 0;
    const worst = Math.max(0, ...measures.filter(({ unit }) => unit === 'max').map(({ value }) => value));
    const decibels = measures.find(({ unit }) => unit === 'dB');
    const outside = wrong
      .map(({ what, value, bound, unit }) => `${what} ${value.toPrecision(3)} ${unit}, bound ${bound}`)
      .join('; ');
    console.log(
      `  ${wrong.length === 0 ? 'ok  ' : 'FAIL'} ${name.padEnd(54)} worst ${worst.toExponential(1)}${decibels === undefined ? '' : `  ${decibels.value.toFixed(1)} dB`}${outside === '' ? '' : `  ${outside}`}`,
    );
  }
}

if (has('rng')) print('noise', await measureNoise(kit));
if (has('schedulers')) print('schedulers', await measureSchedulers(kit));
if (has('tokenizers/clip')) print('CLIP tokens', await measureTokens(kit, models));
if (has('sdxl-tiny')) {
  const model = await openSdxlModel(path.join(models, 'sdxl-tiny'), { device, threads: 1 });
  if (has('compel')) print('prompt weights', await measureCompel(kit, model));
  print('SDXL components', await measureSdxlComponents(kit, model));
  const runs: MeasuredCase[] = [];
  for (const item of await readCases<SdxlCase[]>(kit, 'sdxl-tiny/cases.json'))
    runs.push({ name: item.name, measures: await measureSdxlCase(model, path.join(kit, 'sdxl-tiny'), item) });
  print('SDXL runs', runs);
  await model.release();
}
if (has('sdxl-tiny/adapters.json')) {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-adapters-'));
  print(
    'SDXL with an adapter',
    await measureAdapters(kit, models, folder, device).finally(() => rm(folder, { recursive: true })),
  );
}
for (const folder of ['t5', 't5-bytes'])
  if (has(`tokenizers/${folder}`)) print(`${folder} tokens`, await measureT5Tokens(kit, folder, models));
if (has('wan-tiny')) {
  const model = await openWanModel(path.join(models, 'wan-tiny'), { device, threads: 1 });
  print('WAN text', await measureWanText(kit, model));
  print('WAN transformer', await measureWanTransformer(kit, model));
  print('WAN VAE in chunks', await measureWanVae(kit, model));
  const runs: MeasuredCase[] = [];
  for (const item of await readCases<WanCase[]>(kit, 'wan-tiny/cases.json'))
    runs.push({ name: item.name, measures: await measureWanCase(model, path.join(kit, 'wan-tiny'), item) });
  print('WAN runs', runs);
  await model.release();
}
console.log(failed === 0 ? '\nEverything is within tolerance.' : `\n${failed} cases are out of tolerance.`);
process.exitCode = failed === 0 ? 0 : 1;
