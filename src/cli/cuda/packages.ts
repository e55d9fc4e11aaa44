import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../lib/project.js';
import { CliError, exitCodes } from '../output.js';
import { EnvHttpProxyAgent, fetch, type Response } from 'undici';
import { HubError, type HubFile } from '../models/hub.js';

/** A file of a package index, pinned: whatever an index or a mirror says, only these bytes are taken. */
export interface PinnedPackage {
  name: string;
  version: string;
  file: string;
  bytes: number;
  sha256: string;
  unpackedBytes: number;
}

/** Everything one generation of drivers needs, as models/cuda.json lists it. */
export interface CudaSet {
  name: string;
  /** CUDA version the provider was built for. */
  cuda: string;
  /** First number of the oldest driver that runs it. */
  minimumDriver: number;
  /** Version of ONNX Runtime, of the provider and of the binding alike. */
  runtime: string;
  /** Wheels of PyPI, with what is taken out of each. */
  packages: Array<PinnedPackage & { entries: string[] }>;
  /** Packages of npm, where the binding is not the one the service installs. */
  binding?: PinnedPackage[];
  /** Packages of npm with llama.cpp's CUDA build, of the version of node-llama-cpp that the service has. */
  llama: PinnedPackage[];
}

export function readCudaSets(): CudaSet[] {
  const file = path.join(projectRoot(), 'models/cuda.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { sets: CudaSet[] }).sets;
}

/** Version of the NVIDIA driver, e.g. `580.95.05`; null without one. */
export async function readDriver(): Promise<string | null> {
  const asked = await promisify(execFile)(
    'nvidia-smi',
    ['--query-gpu=driver_version', '--format=csv,noheader'],
    { timeout: 20_000 },
  ).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const said = asked.split('\n')[0]?.trim() ?? '';
  if (/^\d+\.[\d.]+$/.test(said)) return said;
  const kernel = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => '');
  return /Kernel Module(?: for \S+)?\s+(\d+\.[\d.]+)/.exec(kernel)?.[1] ?? null;
}

/**
 * The newest set that the driver runs, or the one asked for.
 * @throws CliError `failed` with the driver that is needed
 */
export function chooseCudaSet(
  sets: readonly CudaSet[],
  driver: string | null,
  wanted: string | undefined,
): CudaSet {
  const newestFirst = [...sets].sort((a, b) => b.minimumDriver - a.minimumDriver);
  if (wanted !== undefined) {
    const set = sets.find(({ name }) => name === wanted);
    if (set !== undefined) return set;
    const names = sets.map(({ name }) => name).join(' or ');
    throw new CliError(`There is no set ${wanted}: use ${names}`, exitCodes.usage);
  }
  if (driver === null)
    throw new CliError(
      'No NVIDIA driver answers here. In a container, start it with --gpus all; on the machine itself, install ' +
        `the driver (${newestFirst[0]?.minimumDriver} or newer). To fetch the files anyway, for an image or ` +
        `another machine, name the set: --set ${newestFirst[0]?.name}`,
      exitCodes.failed,
    );
  const version = Number.parseInt(driver, 10);
  const set = newestFirst.find(({ minimumDriver }) => version >= minimumDriver);
  if (set !== undefined) return set;
  throw new CliError(
    `The NVIDIA driver here is ${driver}; ${newestFirst.at(-1)?.minimumDriver} or newer is needed. Update the ` +
      'driver, or choose a machine with a newer one.',
    exitCodes.failed,
  );
}

/** An index page is far smaller; nothing larger is read. */
const mostPageBytes = 32 << 20;

/**
 * Files of PyPI (its simple API, PEP 503 and PEP 691) and of an npm registry, or of mirrors of them. Where a
 * file lies is all that is taken from an index: its size and checksum are pinned.
 */
export function createPackageIndex({ pypi, npm }: { pypi: string; npm: string }, timeoutMs = 60_000) {
  const dispatcher = new EnvHttpProxyAgent({ headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  const addresses = new Map<string, string>();

  async function get(
    address: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Response> {
    const response = await fetch(address, {
      dispatcher,
      headers: { 'user-agent': 'ourvidz-worker', ...headers },
      signal,
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      const { cause, message } = error as { cause?: { code?: string }; message: string };
      const reason = cause?.code ?? message;
      throw new HubError(
        `${new URL(address).origin} does not answer (${reason}): check the connection, HTTPS_PROXY, or set ` +
          'PIP_INDEX_URL to a mirror',
        exitCodes.unreachable,
        true,
      );
    });
    if (response.ok) return response;
    await response.body?.cancel();
    const again = response.status >= 500 || response.status === 429;
    const origin = new URL(address).origin;
    throw new HubError(`${origin} answers ${response.status} for ${address}`, exitCodes.serviceError, again);
  }

  async function addressOf({ name, version, file }: PinnedPackage, signal: AbortSignal): Promise<string> {
    if (file.endsWith('.tgz')) return `${npm}/${name}/-/${name.split('/').at(-1)}-${version}.tgz`;
    const known = addresses.get(file);
    if (known !== undefined) return known;
    const page = `${pypi}/${name}/`;
    const accept = 'application/vnd.pypi.simple.v1+json, text/html;q=0.5';
    const response = await get(page, { accept }, signal);
    const text = await readPage(response, page);
    const href = response.headers.get('content-type')?.includes('json')
      ? (JSON.parse(text) as { files?: Array<{ filename: string; url: string }> }).files?.find(
          ({ filename }) => filename === file,
        )?.url
      : [...text.matchAll(/<a\s[^>]*?href="([^"]+)"/gi)]
          .map(([, link]) => (link ?? '').replaceAll('&amp;', '&'))
          .find((link) => decodeURIComponent(new URL(link, page).pathname).endsWith(`/${file}`));
    if (href === undefined)
      throw new HubError(
        `${page} has no ${file}: set PIP_INDEX_URL to an index that has`,
        exitCodes.notFound,
      );
    const address = new URL(href, page).href;
    addresses.set(file, address);
    return address;
  }

  return {
    endpoint: pypi,
    /**
     * Bytes of a package's file from `offset`, and where they begin: 0 when the server does not do ranges.
     */
    async open(pinned: PinnedPackage, offset: number, signal: AbortSignal) {
      const address = await addressOf(pinned, signal);
      const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
      const response = await get(address, { 'accept-encoding': 'identity', ...range }, signal);
      if (response.body === null) throw new HubError(`${address} sent nothing`, exitCodes.serviceError, true);
      const begins = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
      return { body: response.body, offset: response.status === 206 ? Number(begins ?? offset) : 0 };
    },
    close: () => dispatcher.close(),
  };
}
export type PackageIndex = ReturnType<typeof createPackageIndex>;

/** As the downloader of models knows a file. */
export function asHubFile({ file, bytes, sha256 }: PinnedPackage): HubFile {
  return { path: file, size: bytes, checksum: { algorithm: 'sha256', value: sha256 } };
}

async function readPage(response: Response, page: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > mostPageBytes)
      throw new HubError(`${page} is no package index: it does not end`, exitCodes.serviceError);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
