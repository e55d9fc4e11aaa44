import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { requiredFiles } from '../../src/inference/checkpoint/model-layout.js';
import { expectedFootprints } from '../../src/services/card/index.js';
import { findModelFolders, readSdxlSettings } from '../../src/services/models/model-folders.js';
import { checkModelFolder } from '../../src/services/operations/model-checks.js';
import { type TensorBytes, writeSafetensors } from '../helpers/checkpoints.js';

t.test('finds engines in the reference layout and the pocket layout', async (t) => {
  const reference = t.testdir({
    'Qwen2.5-7B': {},
    'Qwen2.5-7B-Instruct': {},
    'sdxl-lustify': {},
    'wan2.1-t2v-1.3b': {},
    'wan-other': {},
    'sdxl.txt': '',
  });
  t.same(await findModelFolders(reference), {
    sdxl: { dir: path.join(reference, 'sdxl-lustify') },
    wan: { dir: path.join(reference, 'wan2.1-t2v-1.3b') },
    qwen: {
      dir: path.join(reference, 'Qwen2.5-7B-Instruct'),
      completionDir: path.join(reference, 'Qwen2.5-7B'),
    },
  });
  const alone = t.testdir({ 'qwen2.5-14b-instruct': {} });
  t.match((await findModelFolders(alone)).qwen, {
    dir: path.join(alone, 'qwen2.5-14b-instruct'),
    completionDir: undefined,
  });
  const pocket = t.testdir({ sdxl: {}, qwen: {} });
  t.match(await findModelFolders(pocket), {
    sdxl: { dir: path.join(pocket, 'sdxl') },
    wan: { dir: null, reason: /there is no wan model folder in/ },
    qwen: { dir: path.join(pocket, 'qwen') },
  });
  t.match(await findModelFolders(path.join(pocket, 'nowhere')), {
    sdxl: { dir: null, reason: /nowhere \(ENOENT\)/ },
  });
});

const tensor: TensorBytes = { dtype: 'F16', shape: [1], bytes: Buffer.alloc(2) };
const checkpoint = new Map([['model.diffusion_model.input_blocks.0.0.weight', tensor]]);

t.test('a checkpoint that lies alone in the models folder is the model', async (t) => {
  const dir = t.testdir({ loras: {}, 'broken.safetensors': 'not one' });
  const file = path.join(dir, 'juggernautXL_lightning_8step.safetensors');
  await writeSafetensors(file, checkpoint);
  await writeSafetensors(
    path.join(dir, 'detail-lora.safetensors'),
    new Map([['lora_unet_down.weight', tensor]]),
  );
  t.same((await findModelFolders(dir)).sdxl, { dir: file }, 'an adapter and a damaged file are passed over');
  t.same(
    requiredFiles('sdxl', file).filter((each) => !existsSync(each)),
    [],
    'configurations and tokenizers come with the service',
  );
  t.match(await checkModelFolder('sdxl', file)(new AbortController().signal), [
    { severity: 'ok', message: file },
  ]);
  const none = { dir: null };
  const [alone, nothing] = [{ dir: file }, none].map((sdxl) =>
    expectedFootprints(['sdxl'], { sdxl, wan: none, qwen: none }),
  );
  t.ok(((await alone)?.sdxl?.residentBytes ?? 0) > ((await nothing)?.sdxl?.residentBytes ?? 0));
  t.same(await readSdxlSettings(file), { scheduler: 'euler_trailing', steps: 8, guidanceScale: 1 });
  await writeFile(path.join(dir, 'juggernautXL_lightning_8step.ourvidz.json'), '{"guidanceScale": 2}');
  t.match(await readSdxlSettings(file), { steps: 8, guidanceScale: 2 });

  await writeSafetensors(path.join(dir, 'another.safetensors'), checkpoint);
  t.match((await findModelFolders(dir)).sdxl, {
    dir: null,
    reason:
      /holds 2 SDXL checkpoints: another.safetensors, juggernaut.* Put the one to use into a folder sdxl-NAME/,
  });
  await mkdir(path.join(dir, 'sdxl-mine'));
  t.same((await findModelFolders(dir)).sdxl, { dir: path.join(dir, 'sdxl-mine') }, 'a folder goes first');
});

t.test('distilled checkpoints are drawn in few steps, as their names say or ourvidz.json does', async (t) => {
  const lcm = { scheduler: { 'scheduler_config.json': '{"_class_name": "LCMScheduler"}' } };
  const dir = t.testdir({
    'sdxl-lightning': {},
    'sdxl-Lightning-2step': {},
    'sdxl-turbo': {},
    'sdxl-lcm-merge': {},
    'sdxl-HyperSD': {},
    'sdxl-fast': lcm,
    'sdxl-guided': { unet: { 'config.json': '{"time_cond_proj_dim": 256}' } },
    'sdxl-base-1.0': {},
    'sdxl-welcome': {},
    'sdxl-own': { 'ourvidz.json': '{"steps": 6, "guidanceScale": 1.5, "scheduler": "lcm"}' },
    'sdxl-odd': { 'ourvidz.json': '{"steps": 99, "guidanceScale": "low", "scheduler": "magic"}' },
  });
  const settings = async (name: string) => readSdxlSettings(path.join(dir, name));
  const few = (scheduler: string, steps: number) => ({ scheduler, steps, guidanceScale: 1 });
  t.same(await settings('sdxl-lightning'), few('euler_trailing', 4));
  t.same(await settings('sdxl-Lightning-2step'), few('euler_trailing', 2));
  t.same(await settings('sdxl-turbo'), few('euler_ancestral_trailing', 4));
  t.same(await settings('sdxl-lcm-merge'), few('lcm', 4));
  t.same(await settings('sdxl-HyperSD'), few('euler_trailing', 8));
  t.same(await settings('sdxl-fast'), few('lcm', 4), 'by its scheduler');
  t.same(await settings('sdxl-guided'), few('lcm', 4), 'by its UNet');
  for (const name of ['sdxl-base-1.0', 'sdxl-welcome', 'sdxl-odd']) t.same(await settings(name), {}, name);
  t.same(await settings('sdxl-own'), { steps: 6, guidanceScale: 1.5, scheduler: 'lcm' });
});
