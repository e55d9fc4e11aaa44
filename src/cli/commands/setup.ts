import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Command, Option } from 'commander';
import { scopes } from '../../contract/document.js';
import { cudaEnvironment, findCudaRuntime, withPackage, type CudaRuntime } from '../../lib/cuda-runtime.js';
import { readEnvironment } from '../../lib/environment.js';
import { ownProgram } from '../../lib/processes.js';
import { projectRoot } from '../../lib/project.js';
import { isJson } from '../client.js';
import {
  chooseCudaSet,
  createPackageIndex,
  type CudaSet,
  readCudaSets,
  readDriver,
} from '../cuda/packages.js';
import { downloadBytesOf, installCudaSet, installedSet, unpackedBytesOf } from '../cuda/install.js';
import { gigabytes } from '../models/pull.js';
import { entriesIn, nameForm } from '../../plugins/api-keys.js';
import { CliError, exitCodes, formatTable, print, writeNote } from '../output.js';
import { createTransferView } from '../progress-view.js';

interface SetupFlags {
  to?: string;
  set?: string;
  check?: boolean;
  dryRun?: boolean;
}

const settings = readEnvironment();

export function registerSetup(program: Command): void {
  program
    .command('setup')
    .description('make this machine ready')
    .command('cuda')
    .description('fetch what an NVIDIA card needs, with neither root nor the CUDA toolkit, and try it')
    .option('--check', 'fetch nothing: compute on the card with what is here, and compare')
    .option(
      '--set <name>',
      'cuda13 (drivers from 580 on) or cuda12 (from 525 on), instead of what the driver needs',
    )
    .option('--to <folder>', 'where it goes (CUDA_DIR; default: runtimes/cuda of the worker)')
    .option('--dry-run', 'say what would be fetched, and fetch nothing')
    .addHelpText(
      'after',
      `
Takes the CUDA provider of ONNX Runtime and NVIDIA's libraries from PyPI: pinned
versions, every file checked. An interrupted run goes on where it ended: run the
same command again. npm ci does not remove what was fetched.
Environment: CUDA_DIR, PIP_INDEX_URL (a mirror of PyPI), npm_config_registry,
HTTPS_PROXY.`,
    )
    .action(async (flags: SetupFlags, command: Command) => setUpCuda(flags, isJson(command)));
}

type KeyEntry = { name: string; scopes: string[]; sha256?: string };

/** The file of API_KEYS_FILE, on this machine: a service reads it again by itself. */
export function registerKeys(program: Command): void {
  const keys = program
    .command('keys')
    .description('the API keys in the file of API_KEYS_FILE, on this machine');
  keys
    .command('list', { isDefault: true })
    .description('their names and what they may do')
    .action((_options: unknown, command: Command) => {
      const known = readKeys().map(({ name, scopes: may }) => ({ name, may: may.join(', ') }));
      print(isJson(command), known, () => formatTable(['NAME', 'MAY'], known.map(Object.values)));
    });
  keys
    .command('add')
    .description('make a key and print it, once; the file keeps its digest')
    .argument('<name>', 'letters, digits, dots, dashes')
    .addOption(
      new Option('--scopes <scopes...>', 'what it may do').choices([...scopes, 'all']).default(['jobs']),
    )
    .action((name: string, options: { scopes: string[] }, command: Command) => {
      if (!nameForm.test(name))
        throw new CliError(
          'A name has up to 64 letters, digits, dots, dashes and underscores.',
          exitCodes.usage,
        );
      const key = randomBytes(32).toString('base64url');
      const sha256 = createHash('sha256').update(key).digest('hex');
      writeKeys([...readKeys(), { name, scopes: options.scopes, sha256 }]);
      print(isJson(command), { name, scopes: options.scopes, key }, () => key);
    });
  keys
    .command('remove')
    .description('take every key of this name out of the file')
    .argument('<name>')
    .action((name: string, _options: unknown, command: Command) => {
      const all = readKeys();
      const left = all.filter((each) => each.name !== name);
      if (left.length === all.length) throw new CliError(`There is no key ${name}`, exitCodes.notFound);
      writeKeys(left);
      print(isJson(command), { name, removed: all.length - left.length }, () => `${name}: removed`);
    });
}

function keysFile(): string {
  const file = settings['API_KEYS_FILE'];
  if (file === undefined)
    throw new CliError('Set API_KEYS_FILE to the file of keys that the service reads.', exitCodes.usage);
  return file;
}

function readKeys(): KeyEntry[] {
  const file = keysFile();
  return existsSync(file) ? (entriesIn(readFileSync(file, 'utf8')) as KeyEntry[]) : [];
}

/** Whole or not at all: a service may read it at any moment. */
function writeKeys(keys: KeyEntry[]): void {
  const file = keysFile();
  writeFileSync(`${file}.new`, `${JSON.stringify({ keys }, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

async function setUpCuda(flags: SetupFlags, asJson: boolean): Promise<void> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new CliError(
      `CUDA runs on Linux on x64 only; this is ${process.platform} on ${process.arch}. WebGPU needs no set-up.`,
      exitCodes.failed,
    );
  const cudaDir = path.resolve(flags.to ?? settings['CUDA_DIR'] ?? path.join(projectRoot(), 'runtimes/cuda'));
  const driver = await readDriver();
  if (flags.check === true) return check(findCudaRuntime(cudaDir), driver, asJson);

  const set = chooseCudaSet(readCudaSets(), driver, flags.set);
  if (flags.dryRun === true)
    return print(asJson, summary(set, driver, cudaDir), () => describe(set, driver, cudaDir));
  const here = await installedSet(set, cudaDir);
  if (here === null) writeNote(describe(set, driver, cudaDir));
  const runtime = here ?? (await fetchSet(set, cudaDir));
  if (driver === null) {
    print(
      asJson,
      { ...summary(set, driver, cudaDir), checked: false },
      () => `CUDA ${set.cuda} is in ${runtime.folder}. Nothing was computed: there is no driver here.`,
    );
    return;
  }
  await check(runtime, driver, asJson);
}

async function fetchSet(set: CudaSet, cudaDir: string): Promise<CudaRuntime> {
  const withoutSlash = (url: string) => url.replace(/\/+$/, '');
  const index = createPackageIndex({
    pypi: withoutSlash(settings['PIP_INDEX_URL'] ?? 'https://pypi.org/simple'),
    npm: withoutSlash(settings['npm_config_registry'] ?? 'https://registry.npmjs.org'),
  });
  const interrupted = new AbortController();
  const onInterrupt = () =>
    interrupted.abort(
      new CliError(
        'Interrupted. What has arrived is kept: run the command again to go on',
        exitCodes.interrupted,
      ),
    );
  process.once('SIGINT', onInterrupt).once('SIGTERM', onInterrupt);
  const view = createTransferView(downloadBytesOf(set));
  try {
    return await installCudaSet(set, {
      cudaDir,
      index,
      signal: interrupted.signal,
      onBytes: view.add,
      note: view.note,
    });
  } catch (error) {
    throw interrupted.signal.aborted ? interrupted.signal.reason : error;
  } finally {
    view.stop();
    process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt);
    await index.close();
  }
}

async function check(runtime: CudaRuntime | null, driver: string | null, asJson: boolean): Promise<void> {
  if (runtime === null)
    throw new CliError('CUDA is not set up here: run ourvidz setup cuda', exitCodes.failed);
  if (driver !== null && Number.parseInt(driver, 10) < runtime.minimumDriver)
    throw new CliError(
      `The set here (${runtime.set}) needs a driver of ${runtime.minimumDriver} or newer; this one is ${driver}. ` +
        'Run ourvidz setup cuda again to fetch the set for it.',
      exitCodes.failed,
    );
  const { differences, wrong } = await compute(runtime);
  if (wrong.length > 0) throw new CliError(`The card computes wrong: ${wrong.join(', ')}`, exitCodes.failed);
  print(
    asJson,
    { set: runtime.set, driver, checked: true, differences },
    () =>
      `CUDA ${runtime.cuda} works here (driver ${driver}): ` +
      `${Object.keys(differences).join(', ')} agree with the CPU. ` +
      'Engines use it from their next start on.',
  );
}

interface Comparison {
  /** Largest difference to the CPU by operator, relative to the largest value. */
  differences: Record<string, number>;
  wrong: string[];
}

/** @throws CliError with the runtime's reason */
function compute(runtime: CudaRuntime): Promise<Comparison> {
  const env = { ...process.env, ...cudaEnvironment(runtime, process.env) };
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      ownProgram('src/inference/onnx/check-cuda'),
      { env, timeout: 120_000 },
      (error, out, said) => {
        if (error === null) return resolve(JSON.parse(out) as Comparison);
        reject(new CliError(explain(said || error.message), exitCodes.failed));
      },
    );
  });
}

function explain(reason: string): string {
  const library = /(lib[\w.-]+\.so[\w.]*): cannot open shared object file/.exec(reason)?.[1];
  if (library === 'libcuda.so.1')
    return (
      'The card does not compute: libcuda.so.1 belongs to the driver and is not here. ' +
      'In a container, start it with --gpus all.'
    );
  if (library === 'libz.so.1') return 'cuDNN needs zlib: install it (Debian: zlib1g).';
  if (library !== undefined)
    return (
      `The card does not compute: ${withPackage(library)} is missing. ` +
      'Remove the folder of CUDA_DIR and run ourvidz setup cuda again.'
    );
  return `The card does not compute: ${reason.trim().split('\n').at(-1)}`;
}

function summary(set: CudaSet, driver: string | null, cudaDir: string) {
  return {
    set: set.name,
    cuda: set.cuda,
    runtime: set.runtime,
    driver,
    folder: path.join(cudaDir, set.name),
    download_bytes: downloadBytesOf(set),
    unpacked_bytes: unpackedBytesOf(set),
  };
}

function describe(set: CudaSet, driver: string | null, cudaDir: string): string {
  return (
    `Driver ${driver ?? 'none'}: CUDA ${set.cuda}, ONNX Runtime ${set.runtime}\n` +
    `${gigabytes(downloadBytesOf(set))} to fetch, ${gigabytes(unpackedBytesOf(set))} on disk ` +
    `-> ${path.join(cudaDir, set.name)}`
  );
}
