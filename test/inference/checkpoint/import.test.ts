import { cp, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { loadAll, writeSafetensors } from '../../helpers/checkpoints.js';
import { writeOriginalWan } from '../../helpers/original-wan.js';
import { models } from '../../parity/kit.js';
import { importCheckpoint } from '../../../src/inference/checkpoint/import.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import { openSdxlModel } from '../../../src/inference/sdxl/model.js';
import { openWanModel } from '../../../src/inference/wan/model.js';

function importing(t: Test, source: string, more: { name?: string; force?: boolean } = {}) {
  const modelsDir = path.join(t.testdirName, 'models');
  const signal = new AbortController().signal;
  let read = 0;
  const options = {
    modelsDir,
    force: false,
    signal,
    onTotal: () => {},
    onBytes: (count: number) => void (read += count),
  };
  return importCheckpoint(source, { ...options, ...more }).then((done) => ({ ...done, read }));
}

t.test('a diffusers folder becomes a model that opens; its weights are not copied', async (t) => {
  t.testdir();
  const source = path.join(t.testdirName, 'fox model');
  await cp(path.join(models, 'sdxl-tiny'), source, { recursive: true, dereference: true });
  const done = await importing(t, source);
  t.match(done, { engine: 'sdxl', stillThere: 0, tensors: 428 + 180 + 84 + 85 });
  t.equal(done.read, done.bytes, 'every value was looked at');
  t.equal(path.basename(done.folder), 'sdxl-fox-model');
  const [own, taken] = await Promise.all(
    [source, done.folder].map((each) => stat(path.join(each, 'unet/diffusion_pytorch_model.safetensors'))),
  );
  t.equal(own?.ino, taken?.ino, 'one file under two names');
  await (await openSdxlModel(done.folder, { device: 'cpu', threads: 1 })).release();
  await t.rejects(importing(t, source), { message: /is there already/ });
  await importing(t, source, { force: true });
  await t.rejects(importing(t, source, { name: '../elsewhere', force: true }), {
    message: /is no name for a folder/,
  });
});

t.test("Wan's own folder becomes a model that opens", async (t) => {
  t.testdir();
  const source = path.join(t.testdirName, 'Wan2.1-T2V-1.3B');
  await writeOriginalWan(path.join(models, 'wan-tiny'), source);
  const done = await importing(t, source);
  t.match(done, { engine: 'wan', tensors: 69 + 22 + 146 });
  t.equal(path.basename(done.folder), 'Wan2.1-T2V-1.3B');
  await (await openWanModel(done.folder, { device: 'cpu', threads: 1 })).release();
});

t.test('what cannot be drawn with is refused by name, and leaves nothing behind', async (t) => {
  t.testdir();
  const source = path.join(t.testdirName, 'broken');
  await cp(path.join(models, 'sdxl-tiny'), source, { recursive: true, dereference: true });
  const unet = path.join(source, 'unet/diffusion_pytorch_model.safetensors');
  const tensors = await loadAll(await readSafetensors(unet));
  const name = 'mid_block.resnets.0.conv1.bias';
  const tensor = tensors.get(name) as { dtype: 'F32'; shape: number[]; bytes: Buffer };
  const changed = async (change: (all: typeof tensors) => void) => {
    const copy = new Map(tensors);
    change(copy);
    await writeSafetensors(unet, copy);
    return importing(t, source);
  };
  const notANumber = Buffer.from(tensor.bytes);
  notANumber.writeFloatLE(NaN, 8);
  await t.rejects(
    changed((all) => all.set(name, { ...tensor, bytes: notANumber })),
    { message: new RegExp(`broken: .*tensor ${name} \\(unet\\) has values that are infinite or no number`) },
  );
  await t.rejects(
    changed((all) => all.delete(name)),
    { message: new RegExp(`the checkpoint lacks ${name}`) },
  );
  await t.rejects(
    changed((all) => all.set('lora.up', tensor)),
    { message: /1 tensors .* not ask for: lora\.up/ },
  );
  await writeFile(unet, Buffer.alloc(100));
  await t.rejects(importing(t, source), { message: /broken: unet\/.*no safetensors file/ });
  await mkdir(path.join(t.testdirName, 'holiday'));
  await writeFile(path.join(t.testdirName, 'holiday/photo.txt'), 'hello');
  await t.rejects(importing(t, path.join(t.testdirName, 'holiday')), {
    message: /is no checkpoint that is known here/,
  });
  await t.rejects(importing(t, path.join(t.testdirName, 'nowhere')), { message: /is not there/ });
  t.same(await readdir(path.join(t.testdirName, 'models/.incoming')), []);
  t.same(await readdir(path.join(t.testdirName, 'models')), ['.incoming']);
});
