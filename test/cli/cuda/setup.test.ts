import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import {
  chooseCudaSet,
  createPackageIndex,
  type CudaSet,
  readCudaSets,
} from '../../../src/cli/cuda/packages.js';
import { installCudaSet, installedSet } from '../../../src/cli/cuda/install.js';
import { cudaEnvironment, findCudaRuntime } from '../../../src/lib/cuda-runtime.js';
import { ownFile, ownLoader, ownProgram } from '../../../src/lib/processes.js';
import { packageVersion } from '../../../src/lib/project.js';
import { sha256, startIndex, zip } from './index-double.js';

t.setTimeout(120_000);

const provider = 'onnxruntime/capi/libonnxruntime_providers_cuda.so';
const shared = 'onnxruntime/capi/libonnxruntime_providers_shared.so';
const cublas = 'nvidia/cu13/lib/libcublas.so.13';

const llamaName = '@node-llama-cpp/linux-x64-cuda';

/** llama.cpp's CUDA build as npm has it, which says where it was found. */
async function llamaPackage(t: Test): Promise<Buffer> {
  const folder = t.testdir({
    package: {
      'package.json': JSON.stringify({
        name: llamaName,
        version: '1',
        type: 'module',
        exports: './index.js',
      }),
      'index.js': `process.stderr.write('found ' + import.meta.url); export const getBinsDir = () => ({});`,
    },
  });
  await promisify(execFile)('tar', ['-czf', path.join(folder, 'it.tgz'), '-C', folder, 'package']);
  return readFile(path.join(folder, 'it.tgz'));
}

/** A set of the real form over small packages, and an index that has them. */
async function arrange(t: Test) {
  const llamaFile = 'linux-x64-cuda-1.tgz';
  const llama = await llamaPackage(t);
  const contents: Record<string, Buffer> = {
    [provider]: randomBytes(300_000),
    [shared]: randomBytes(1000),
    [cublas]: randomBytes(200_000),
    licence: Buffer.from('a licence'),
  };
  const of = (...names: string[]) =>
    zip(Object.fromEntries(names.map((name) => [name, contents[name] as Buffer])));
  const files = {
    'onnxruntime_gpu-1.30.0.whl': {
      project: 'onnxruntime-gpu',
      content: of(provider, shared, 'licence'),
      entries: [provider, shared, 'licence'],
    },
    'nvidia_cublas-13.0.whl': { project: 'nvidia-cublas', content: of(cublas, 'licence'), entries: [cublas] },
  };
  const index = await startIndex(t, { ...files, [llamaFile]: { project: llamaName, content: llama } });
  const set: CudaSet = {
    name: 'cuda13',
    cuda: '13.0',
    minimumDriver: 580,
    runtime: '1.30.0',
    packages: Object.entries(files).map(([file, { project, content, entries }]) => ({
      name: project,
      version: '1',
      file,
      bytes: content.length,
      sha256: sha256(content),
      unpackedBytes: 500_000,
      entries,
    })),
    llama: [
      {
        ...{ name: llamaName, version: '1', file: llamaFile, unpackedBytes: 1000 },
        ...{ bytes: llama.length, sha256: sha256(llama) },
      },
    ],
  };
  const cudaDir = path.join(t.testdir({}), 'cuda');
  const client = createPackageIndex({ pypi: index.pypi, npm: index.origin });
  t.teardown(() => client.close());
  const notes: string[] = [];
  let bytes = 0;
  const install = (signal = new AbortController().signal) =>
    installCudaSet(set, {
      cudaDir,
      index: client,
      signal,
      onBytes: (count) => (bytes += count),
      note: (text) => notes.push(text),
    });
  return { ...index, set, cudaDir, contents, install, notes, bytes: () => bytes };
}

t.test('the set is unpacked, stands beside a binding that loads, and is found by the service', async (t) => {
  const { set, cudaDir, contents, install, bytes, requests } = await arrange(t);
  t.equal(findCudaRuntime(cudaDir), null, 'nothing before');
  const runtime = await install();
  t.equal(
    bytes(),
    [...set.packages, ...set.llama].reduce((sum, each) => sum + each.bytes, 0),
    'progress ends at the whole',
  );
  t.same(findCudaRuntime(cudaDir), runtime);
  const native = path.join(
    runtime.folder,
    'node_modules/onnxruntime-node/bin/napi-v6',
    process.platform,
    process.arch,
  );
  t.same(await readFile(path.join(native, 'libonnxruntime_providers_cuda.so')), contents[provider]);
  t.same(await readFile(path.join(runtime.folder, 'lib/libcublas.so.13')), contents[cublas]);
  t.equal(await readFile(path.join(runtime.folder, 'LICENCE-onnxruntime-gpu.txt'), 'utf8'), 'a licence');

  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    ...cudaEnvironment(runtime, { LD_LIBRARY_PATH: '/before' }),
  };
  t.equal(env['LD_LIBRARY_PATH'], `${runtime.folder}/lib:/before`);
  const { stderr } = await run(ownProgram('src/inference/onnx/check-cuda'), env);
  t.match(
    stderr,
    /libonnxruntime_providers_shared\.so/,
    'the binding of that folder looks for its own provider',
  );

  const opened = await run(
    [
      ...[...ownLoader, '--input-type=module', '--eval'],
      `const { openLlama } = await import(${JSON.stringify(ownFile('src/inference/llama/runtime'))});
       await openLlama('cuda', () => {}).catch(({ message }) => console.error(message));`,
    ],
    env,
  );
  t.match(
    opened.stderr,
    new RegExp(`found file://${runtime.folder}/node_modules/${llamaName}/index.js`),
    "and node-llama-cpp takes llama.cpp's CUDA build from there",
  );
  t.match(opened.stderr, /cuda is not used for the prompt model.*Run npx ourvidz setup cuda/);

  const before = requests.length;
  t.same(await installedSet(set, cudaDir), runtime, 'a second run finds it');
  t.equal(requests.length, before, 'and fetches nothing');
  t.same((await readdir(cudaDir)).sort(), ['cuda13', 'runtime.json'], 'nothing is left lying about');
  const newer = { ...set, llama: set.llama.map((each) => ({ ...each, version: '2' })) };
  t.equal(await installedSet(newer, cudaDir), null, 'a newer node-llama-cpp wants its own build');
});

t.test('a broken download goes on where it ended, in one run or in two', async (t) => {
  const { faults, requests, install, notes } = await arrange(t);
  faults.breakAfter = new Map([['nvidia_cublas-13.0.whl', 50_000]]);
  await install();
  t.ok(
    requests.some((each) => each.startsWith('/files/nvidia_cublas-13.0.whl bytes=')),
    'with a range',
  );
  t.match(notes.join('\n'), /again in/);
});

t.test('an interrupted run keeps what has arrived', async (t) => {
  const { install, requests, faults } = await arrange(t);
  const interrupted = new AbortController();
  faults.breakAfter = new Map([['nvidia_cublas-13.0.whl', 50_000]]);
  const first = install(interrupted.signal);
  const stop = setInterval(() => {
    if (requests.some((each) => each.includes('/files/nvidia_cublas')))
      interrupted.abort(new Error('Ctrl-C'));
  }, 5);
  await t.rejects(first);
  clearInterval(stop);
  const before = requests.length;
  await install();
  const later = requests.slice(before).filter((each) => each.includes('/files/onnxruntime_gpu'));
  t.same(later, [], 'what was unpacked is not fetched again');
});

t.test('wrong bytes are refused twice and named; the folder stays as it was', async (t) => {
  const { faults, install, cudaDir, set } = await arrange(t);
  const [first] = set.packages;
  faults.altered = new Map([[first?.file ?? '', randomBytes(first?.bytes ?? 0)]]);
  await t.rejects(install(), {
    message: /onnxruntime_gpu-1\.30\.0\.whl arrived twice with a wrong checksum/,
  });
  t.equal(findCudaRuntime(cudaDir), null);
});

t.test('an index in HTML, an index that lacks a file, one that refuses', async (t) => {
  const { faults, install, set } = await arrange(t);
  faults.html = true;
  await install();
  t.pass('PEP 503 is read as well');
  const [first] = set.packages;
  if (first !== undefined) first.file = 'another-name.whl';
  await t.rejects(install(), { message: /has no another-name\.whl: set PIP_INDEX_URL/ });
  faults.status = 403;
  await t.rejects(install(), { message: /answers 403/ });
});

t.test('the driver decides; too old or none is one sentence', (t) => {
  const sets = readCudaSets();
  const table: Array<[driver: string | null, wanted: string | undefined, outcome: string | RegExp]> = [
    ['580.95.05', undefined, 'cuda13'],
    ['610.10', undefined, 'cuda13'],
    ['579.99', undefined, 'cuda12'],
    ['525.60.13', undefined, 'cuda12'],
    ['524.0', undefined, /^The NVIDIA driver here is 524\.0; 525 or newer is needed/],
    [null, undefined, /^No NVIDIA driver answers here\. In a container, start it with --gpus all/],
    [null, 'cuda13', 'cuda13'],
    ['580.1', 'cuda11', /^There is no set cuda11: use cuda13 or cuda12$/],
  ];
  for (const [driver, wanted, outcome] of table) {
    const choose = () => chooseCudaSet(sets, driver, wanted);
    if (typeof outcome === 'string') t.equal(choose().name, outcome, `${driver} ${wanted}`);
    else t.throws(choose, { message: outcome }, `${driver} ${wanted}`);
  }
  const own = packageVersion('node-llama-cpp');
  for (const set of sets) {
    t.same(
      [...new Set(set.llama.map(({ version }) => version))],
      [own],
      'the build of node-llama-cpp as installed',
    );
    for (const { sha256: hash, bytes, file } of [...set.packages, ...(set.binding ?? []), ...set.llama])
      t.ok(/^[0-9a-f]{64}$/.test(hash) && bytes > 0, `${file} is pinned`);
  }
  t.end();
});

t.test('the command says what it would do, and what is missing', async (t) => {
  const home = t.testdir({});
  const cli = (args: string[], PATH = process.env['PATH']) =>
    run([...ownProgram('src/cli/main'), 'setup', 'cuda', '--to', path.join(home, 'cuda'), ...args], { PATH });

  const none = await cli([]);
  t.equal(none.code, 1);
  t.match(none.stderr, /No NVIDIA driver answers here/);
  t.match(await cli(['--check']), { code: 1, stderr: /CUDA is not set up here: run ourvidz setup cuda/ });

  // A driver of this version, as nvidia-smi would tell.
  const bin = path.join(home, 'bin');
  await mkdir(bin);
  await writeFile(path.join(bin, 'nvidia-smi'), '#!/bin/sh\necho 550.54.14\n');
  await chmod(path.join(bin, 'nvidia-smi'), 0o755);
  const plan = await cli(['--dry-run', '--json'], `${bin}:${process.env['PATH']}`);
  t.match(JSON.parse(plan.stdout), { set: 'cuda12', driver: '550.54.14', runtime: '1.26.0' });
});

function run(args: string[], env: NodeJS.ProcessEnv) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(process.execPath, args, { env }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}
