import { once } from 'node:events';
import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { denoise } from '../../../src/inference/wan/denoise.js';
import { generateImages } from '../../../src/inference/sdxl/generate.js';
import { openSdxlModel } from '../../../src/inference/sdxl/model.js';
import { createTextCache } from '../../../src/inference/sdxl/text-cache.js';
import { openWanModel } from '../../../src/inference/wan/model.js';
import { encodePrompt } from '../../../src/inference/wan/text.js';
import { decodeClip } from '../../../src/inference/wan/vae.js';
import { findFreePort } from '../../../src/lib/processes.js';
import { findModelFolders } from '../../../src/services/models/model-folders.js';
import { commit, startHubDouble } from '../../helpers/hub-double.js';
import {
  filesBelow,
  models,
  pocketQwen,
  pocketSdxl,
  qwenRepository,
  sdxlRepository,
  startModels,
} from './support.js';

const unet = 'unet/model.onnx';
const part1 = 'qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf';
const part2 = 'qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf';
const sdxlFiles = await pocketSdxl();
const gguf = await pocketQwen();
/** What the pocket model has and a published export has not. */
const ours = /^(?:ourvidz\.json|adapter\.json|image_encoder(?:\/.*)?)$/;
const size = (name: string) => (sdxlFiles[name] as Buffer).length;

async function openHub(
  t: { teardown(handler: () => unknown): unknown },
  options: Parameters<typeof startHubDouble>[1] = {},
) {
  const hub = await startHubDouble(
    {
      [sdxlRepository]: {
        ...sdxlFiles,
        'README.md': Buffer.from('not wanted'),
        'unet/diffusion_pytorch_model.safetensors': Buffer.from('not wanted either'),
      },
      [qwenRepository]: {
        [part1]: gguf.subarray(0, 3_000_000),
        [part2]: gguf.subarray(3_000_000, 4_000_000),
        'qwen2.5-7b-instruct-q8_0.gguf': gguf.subarray(0, 2_000_000),
        LICENSE: Buffer.from('Apache'),
      },
    },
    options,
  );
  t.teardown(() => hub.close());
  return hub;
}

t.test('pulls the files of a model into the folder the service looks for, each checked', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  const to = path.join(home, 'models');
  const result = await models(home, ['pull', 'sdxl-onnx', '--to', to], { HF_ENDPOINT: hub.origin });
  t.equal(result.code, 0, result.stderr);
  const found = (await findModelFolders(to)).sdxl;
  t.equal(found.dir, path.join(to, 'sdxl-base-1.0-onnx'));
  const published = Object.entries(sdxlFiles).filter(([name]) => !ours.test(name));
  for (const [name, body] of published)
    t.ok((await readFile(path.join(to, 'sdxl-base-1.0-onnx', name))).equals(body), name);
  t.strictSame(
    (await readdir(path.join(to, 'sdxl-base-1.0-onnx'))).filter(
      (name) => name === 'README.md' || ours.test(name),
    ),
    [],
    'only what the model needs',
  );
  t.strictSame(await readdir(to), ['sdxl-base-1.0-onnx'], 'nothing of the way there is left');
  const requests = hub.served.length;
  t.match(
    (await models(home, ['pull', 'sdxl-onnx', '--to', to], { HF_ENDPOINT: hub.origin })).stdout,
    /here already/,
  );
  t.equal(hub.served.length, requests, 'a second pull fetches nothing');

  t.match((await models(home, ['list'], { MODELS_DIR: to })).stdout, /sdxl-onnx +sdxl +13\.9 GB +here/);
  t.equal((await models(home, ['verify', '--to', to])).code, 0);
  const file = path.join(to, 'sdxl-base-1.0-onnx', unet);
  const bytes = await readFile(file);
  bytes[1000] = (bytes[1000] as number) ^ 1;
  await writeFile(file, bytes);
  const verified = await models(home, ['verify', 'sdxl-onnx', '--to', to]);
  t.equal(verified.code, 1);
  t.match(verified.stdout, /unet\/model\.onnx has another content/);
});

t.test('an SDXL that was pulled is a model: a picture is drawn from the files as they came', async (t) => {
  const own = await filesBelow('test/parity/models/sdxl-tiny');
  const files = Object.fromEntries(
    Object.entries(own).map(([name, body]) => [name.replace(/\.safetensors$/, '.fp16.safetensors'), body]),
  );
  const hub = await startHubDouble({
    [sdxlRepository]: { ...files, 'unet/model.onnx': Buffer.from('not wanted') },
  });
  t.teardown(() => hub.close());
  const home = t.testdir();
  const to = path.join(home, 'models');
  const result = await models(home, ['pull', 'sdxl', '--to', to], { HF_ENDPOINT: hub.origin });
  t.equal(result.code, 0, result.stderr);
  t.notMatch(result.stdout + result.stderr, /python|export/i);
  const { dir } = (await findModelFolders(to)).sdxl;
  t.equal(dir, path.join(to, 'sdxl-base-1.0'));
  const model = await openSdxlModel(dir as string, { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  const outputDir = path.join(home, 'out');
  await mkdir(outputDir);
  const pipeline = {
    model,
    texts: createTextCache(model),
    preview: null,
    batchSize: 1,
    rowLimit: { rows: Infinity },
  };
  const size = { width: 64, height: 64 };
  const drawn = await generateImages(
    pipeline,
    {
      ...{ jobId: 'pulled', outputDir, prompt: 'a red fox', negativePrompt: null, parseWeights: true },
      ...{ weights: [], steps: 2, guidanceScale: 5, scheduler: 'euler', ...size, seed: 1, numImages: 1 },
      ...{ format: 'png', previewEverySteps: 0, parametersText: '', explain: false },
    },
    { id: '1', signal: new AbortController().signal, emit() {}, compute: (work) => work() },
  );
  t.match(drawn.files, [{ ...size, contentType: 'image/png' }]);
});

t.test('a Wan that was pulled is a model: its clip is drawn from the files as they came', async (t) => {
  const repository = 'Wan-AI/Wan2.1-T2V-1.3B-Diffusers';
  const files = await filesBelow('test/parity/models/wan-tiny');
  const hub = await startHubDouble({ [repository]: { ...files, 'README.md': Buffer.from('not wanted') } });
  t.teardown(() => hub.close());
  const home = t.testdir();
  const to = path.join(home, 'models');
  const result = await models(home, ['pull', 'wan2.1-t2v-1.3b', '--to', to], { HF_ENDPOINT: hub.origin });
  t.equal(result.code, 0, result.stderr);
  t.notMatch(result.stdout, /python|not yet a model/i);
  const { dir } = (await findModelFolders(to)).wan;
  t.equal(dir, path.join(to, 'wan2.1-t2v-1.3b'));
  const model = await openWanModel(dir as string, { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  const { embeds } = await encodePrompt(model, 'a red fox');
  const shape = { channels: model.channels, frames: 2, height: 4, width: 4 };
  const { latents } = await denoise(model, createGenerator(1).randn(16 * 2 * 16), shape, {
    positive: { embeds, tokenCount: 0, truncated: false, ids: [] },
    negative: { embeds, tokenCount: 0, truncated: false, ids: [] },
    guidanceScale: 5,
    scheduler: 'unipc',
    steps: 2,
    shift: 5,
    known: null,
    signal: new AbortController().signal,
    onStep() {},
  });
  const frames: number[] = [];
  await decodeClip(model, latents, shape, async (chunk) => {
    frames.push(chunk.length / (3 * 32 * 32));
  });
  t.same(frames, [1, 4]);
});

t.test('goes on after kill -9 without fetching again what had arrived', async (t) => {
  const hub = await openHub(t, { bytesPerMs: 4000 });
  const home = t.testdir();
  const part = path.join(home, 'models/.incoming', `sdxl-onnx-${'462165984030'}`, `${unet}.part`);
  const child = startModels(home, ['pull', 'sdxl-onnx', '--to', path.join(home, 'models')], {
    HF_ENDPOINT: hub.origin,
  });
  const ended = once(child, 'exit');
  while (((await stat(part).catch(() => null))?.size ?? 0) < 2_000_000) await sleep(10);
  child.kill('SIGKILL');
  await ended;
  const kept = (await stat(part)).size;
  t.ok(kept < size(unet), `killed at ${kept} of ${size(unet)} bytes`);
  hub.setSpeed(Infinity);
  hub.served.length = 0;
  const result = await models(home, ['pull', 'sdxl-onnx', '--to', path.join(home, 'models')], {
    HF_ENDPOINT: hub.origin,
  });
  t.equal(result.code, 0, result.stderr);
  t.match(
    hub.served.filter(({ file }) => file === unet),
    [{ from: kept, bytes: size(unet) - kept }],
    'one request, from where the file ended',
  );
  t.ok(
    (await readFile(path.join(home, 'models/sdxl-base-1.0-onnx', unet))).equals(sdxlFiles[unet] as Buffer),
  );
});

t.test('corrupt bytes are noticed, fetched again once, and never placed', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  const run = async () => models(home, ['pull', 'sdxl-onnx', '--to', home], { HF_ENDPOINT: hub.origin });
  hub.misbehave(unet, { kind: 'corrupt' }, { kind: 'corrupt' });
  const failed = await run();
  t.equal(failed.code, 1);
  t.match(failed.stderr, /unet\/model\.onnx arrived twice with a wrong checksum/);
  t.equal((await findModelFolders(home)).sdxl.dir, null);
  hub.misbehave(unet, { kind: 'corrupt' });
  const cured = await run();
  t.equal(cured.code, 0, cured.stderr);
  t.match(cured.stderr, /wrong checksum: fetching it again/);
  t.ok((await readFile(path.join(home, 'sdxl-base-1.0-onnx', unet))).equals(sdxlFiles[unet] as Buffer));
});

t.test('a broken connection, a busy hub and one without ranges cost time, not the pull', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  hub.misbehave(
    unet,
    { kind: 'cut', after: 5_000_000 },
    { kind: 'status', status: 503, retryAfter: '0' },
    { kind: 'status', status: 429, retryAfter: '0' },
    { kind: 'cut', after: 5_000_000 },
    { kind: 'no-ranges' },
  );
  const result = await models(home, ['pull', 'sdxl-onnx', '--to', home], { HF_ENDPOINT: hub.origin });
  t.equal(result.code, 0, result.stderr);
  const [first, second, third] = hub.served.filter(({ file }) => file === unet);
  // some of what was sent last may have been on its way when the connection broke
  t.ok(
    second !== undefined && first !== undefined && second.from > 0 && second.from <= first.bytes,
    `the second request begins at ${second?.from}, the first broke after ${first?.bytes}`,
  );
  t.equal(third?.from, 0, 'no ranges: from the start');
  t.ok((await readFile(path.join(home, 'sdxl-base-1.0-onnx', unet))).equals(sdxlFiles[unet] as Buffer));
});

t.test('what the hub refuses is said with its cure and an exit code of its own', async (t) => {
  const hub = await openHub(t, { token: 'hf_right' });
  const home = t.testdir();
  const pull = async (args: string[] = [], extra: NodeJS.ProcessEnv = {}) =>
    models(home, ['pull', 'sdxl-onnx', '--to', home, ...args], { HF_ENDPOINT: hub.origin, ...extra });
  const anonymous = await pull();
  t.equal(anonymous.code, 4);
  t.match(anonymous.stderr, /401.*set HF_TOKEN/);
  t.match((await pull([], { HF_TOKEN: 'hf_wrong' })).stderr, /the token in HF_TOKEN may not read it/);
  const missing = await pull(['--revision', 'no-such-branch'], { HF_TOKEN: 'hf_right' });
  t.equal(missing.code, 5);
  t.match(missing.stderr, /has no .* at no-such-branch .*--revision/);
  hub.misbehave('api', { kind: 'status', status: 429, retryAfter: '30' });
  const busy = await pull([], { HF_TOKEN: 'hf_right' });
  t.equal(busy.code, 6);
  t.match(busy.stderr, /no more requests for now \(429\)/);
  hub.misbehave('api', { kind: 'status', status: 502 });
  const failing = await pull([], { HF_TOKEN: 'hf_right' });
  t.equal(failing.code, 7);
  t.match(failing.stderr, /fails with 502.*try again later/);
  hub.misbehave(unet, { kind: 'announce-other' });
  t.match(
    (await pull([], { HF_TOKEN: 'hf_right' })).stderr,
    /announces unet\/model\.onnx with another checksum/,
  );
  const nobody = await models(home, ['pull', 'sdxl-onnx', '--to', home], {
    HF_ENDPOINT: `http://127.0.0.1:${await findFreePort()}`,
  });
  t.equal(nobody.code, 3);
  t.match(nobody.stderr, /does not answer \(ECONNREFUSED\).*HTTPS_PROXY/);
  await mkdir(path.join(home, 'hf'), { recursive: true });
  await writeFile(path.join(home, 'hf/token'), 'hf_right\n');
  t.equal((await pull()).code, 0, "the token that the hub's own tools keep in HF_HOME is enough");
  t.ok(hub.served.some(({ file }) => file === unet));
  t.strictSame(
    hub.served.filter(({ file, authorization }) => file.endsWith('.onnx') && authorization !== undefined),
    [],
    'no token travels to the storage host',
  );
});

t.test('a full disk is refused before the first byte', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  hub.claimSize(unet, 4e15);
  const result = await models(home, ['pull', 'sdxl-onnx', '--to', path.join(home, 'models')], {
    HF_ENDPOINT: hub.origin,
  });
  t.equal(result.code, 1);
  t.match(result.stderr, /needs 400000\d\.\d GB more .*are free.*--to or MODELS_DIR/);
  t.equal(hub.served.length, 0);
  t.strictSame(await readdir(home), [], 'nothing written');
});

t.test('one pull of a model at a time; a killed one leaves no lock that holds', async (t) => {
  const hub = await openHub(t, { bytesPerMs: 1000 });
  const home = t.testdir();
  const child = startModels(home, ['pull', 'sdxl-onnx', '--to', home], { HF_ENDPOINT: hub.origin });
  const ended = once(child, 'exit');
  while (hub.served.length === 0) await sleep(10);
  const second = await models(home, ['pull', 'sdxl-onnx', '--to', home], { HF_ENDPOINT: hub.origin });
  t.equal(second.code, 6);
  t.match(second.stderr, new RegExp(`being pulled by process ${child.pid}`));
  child.kill('SIGKILL');
  await ended;
  hub.setSpeed(Infinity);
  t.equal((await models(home, ['pull', 'sdxl-onnx', '--to', home], { HF_ENDPOINT: hub.origin })).code, 0);
});

t.test('a GGUF is pulled in the quantisation asked for, all its parts', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  const pull = async (...args: string[]) =>
    models(home, ['pull', 'qwen2.5-7b-instruct', '--to', home, ...args], { HF_ENDPOINT: hub.origin });
  const dry = await pull('--dry-run');
  t.equal(dry.code, 0);
  t.match(
    dry.stdout,
    /q4_k_m[^]*2 files, 4\.0 MB[^]*Needs about 0\.6\d GB of memory for one prompt, 1\.6\d GB for eight/,
  );
  t.strictSame(await readdir(home), [], 'a dry run writes nothing');
  t.equal((await pull()).code, 0);
  t.strictSame((await readdir(path.join(home, 'Qwen2.5-7B-Instruct'))).sort(), [
    'ourvidz-source.json',
    part1,
    part2,
  ]);
  t.equal((await findModelFolders(home)).qwen.dir, path.join(home, 'Qwen2.5-7B-Instruct'));
  const unknown = await pull('--quant', 'q3_k_s');
  t.equal(unknown.code, 2);
  t.match(unknown.stderr, /has no q3_k_s; it has q4_k_m, q8_0/);
  const other = await pull('--quant', 'q8_0');
  t.equal(other.code, 2);
  t.match(other.stderr, /holds something else.*--force/);
  t.equal((await pull('--quant', 'q8_0', '--force')).code, 0);
  t.strictSame((await readdir(path.join(home, 'Qwen2.5-7B-Instruct'))).sort(), [
    'ourvidz-source.json',
    'qwen2.5-7b-instruct-q8_0.gguf',
  ]);
});

t.test('a revision is pinned to its commit, and files another tool has fetched are used', async (t) => {
  const hub = await openHub(t);
  const home = t.testdir();
  const list = JSON.parse(
    (
      await models(home, ['pull', 'sdxl-onnx', '--to', home, '--revision', 'main', '--dry-run', '--json'], {
        HF_ENDPOINT: hub.origin,
      })
    ).stdout,
  ) as { commit: string; files: Array<{ path: string; checksum: { value: string } }> };
  t.equal(list.commit, commit);
  const blobs = path.join(home, 'hf/hub', `models--${sdxlRepository.replace('/', '--')}`, 'blobs');
  await mkdir(blobs, { recursive: true });
  await writeFile(
    path.join(blobs, list.files.find((file) => file.path === unet)?.checksum.value ?? ''),
    sdxlFiles[unet] as Buffer,
  );
  const result = await models(home, ['pull', 'sdxl-onnx', '--to', home, '--revision', 'main'], {
    HF_ENDPOINT: hub.origin,
  });
  t.equal(result.code, 0, result.stderr);
  t.equal(hub.bytesOf(unet), 0);
  t.match(JSON.parse(await readFile(path.join(home, 'sdxl-base-1.0-onnx/ourvidz-source.json'), 'utf8')), {
    commit,
    repository: sdxlRepository,
  });
  await rm(blobs, { recursive: true });
});

t.test('what cannot be pulled is said', async (t) => {
  const home = t.testdir();
  const unknown = await models(home, ['pull', 'sd15', '--to', home]);
  t.equal(unknown.code, 2);
  t.match(unknown.stderr, /no model sd15.*there are sdxl, /);
  t.match(
    (await models(home, ['list', 'qwen2.5-7b-instruct'])).stdout,
    /q4_k_m \(default\) +4\.68 GB +5\.33 GB +6\.36 GB/,
  );
  t.equal((await models(home, ['pull', 'sdxl-onnx', '--quant', 'q8_0'])).code, 2);
  t.equal((await models(home, ['verify', '--to', home])).code, 5);
});
