import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { promisify } from 'node:util';
import { request } from 'undici';
import { packageVersion, projectRoot, userAgent } from '../../lib/project.js';
import { withoutCredentials } from '../../lib/printable.js';
import { formatGigabytes } from '../../lib/units.js';
import type { EngineKind } from '../../inference/engine-protocol.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import type { ModelFolder } from '../models/model-folders.js';
import type { Storage } from '../storage/storage.js';
import { checkCardPlan, checkEngines, checkModelFolder, checkQwenFolder } from './model-checks.js';
import { createProbes, type ProbeParts } from './probes.js';
import type { Probe } from './troubles.js';
import { type Check, createValidation, type Finding, findingOf, type NamedCheck } from './validation.js';

interface ServiceChecksOptions extends ProbeParts {
  gpu: GpuMonitor;
  folders: Record<EngineKind, ModelFolder>;
  engineEntry: string;
  storage: Pick<Storage, 'kind' | 'ping' | 'inspect'>;
  /** The service's own, which look anyway; absent where no service runs. */
  probes?: readonly Probe[];
}

/** Loading native code from a cold disk, with every core computing. */
const loadingMs = 60_000;

/**
 * What `GET /worker/validate` and `ourvidz doctor` look at: what the list of troubles asks anyway, and what takes
 * longer than it may.
 */
export function createServiceChecks(parts: ServiceChecksOptions) {
  const { folders, storage, supabaseUrl, engines, gpu, engineEntry } = parts;
  const folder = (kind: 'sdxl' | 'wan' | 'qwen'): Check => {
    const found = folders[kind];
    // Without SDXL there is nothing to draw with; WAN and Qwen are extras that some installations leave out.
    if (found.dir === null) return missingFolder(kind, found.reason, kind === 'sdxl' ? 'error' : 'warning');
    return kind === 'qwen'
      ? checkQwenFolder(found.dir, found.completionDir)
      : checkModelFolder(kind, found.dir);
  };
  const checks: NamedCheck[] = [
    ...(parts.probes ?? createProbes(parts)).map(asCheck),
    { name: 'gpu_availability', subject: 'gpu', run: checkGpu(gpu) },
    { name: 'gpu_availability', subject: 'models on this card', run: checkCardPlan(gpu, folders) },
    {
      name: 'python_dependencies',
      subject: 'packages',
      run: checkPackages(['onnxruntime-node', 'sharp', 'node-llama-cpp']),
    },
    { name: 'worker_scripts', subject: 'engine processes', run: checkEntryPoints([engineEntry]) },
    {
      name: 'python_dependencies',
      subject: 'native runtimes',
      run: checkNativeRuntimes(),
      timeoutMs: loadingMs,
    },
    { name: 'environment_variables', subject: `${storage.kind} storage`, run: checkBuckets(storage) },
    ...(supabaseUrl === undefined || storage.kind === 'supabase'
      ? []
      : [asCheck(probeSupabase(supabaseUrl))]),
    ...(['sdxl', 'wan', 'qwen'] as const).map((kind): NamedCheck => ({
      name: 'model_paths',
      subject: kind,
      run: folder(kind),
    })),
    ...(engines === undefined
      ? []
      : [{ name: 'model_paths' as const, subject: 'engines', run: checkEngines(engines) }]),
  ];
  return createValidation({ checks });
}

/** Troubles as findings; that there are none is one, too. */
export function asCheck({ check, subject, look, well }: Probe): NamedCheck {
  return {
    name: check,
    subject,
    async run(signal) {
      const startedAt = performance.now();
      const troubles = await look(signal);
      if (troubles.length > 0) return troubles.map((trouble) => findingOf(check, subject, trouble));
      if (well !== undefined) return [{ check, subject, severity: 'ok', message: well() }];
      const latencyMs = Math.round((performance.now() - startedAt) * 10) / 10;
      return [{ check, subject, severity: 'ok', message: `answers in ${latencyMs} ms`, latencyMs }];
    },
  };
}

/** Any answer will do: what stands there checks keys by itself. */
const probeSupabase = (url: string): Probe => ({
  check: 'environment_variables',
  subject: 'supabase',
  async look(signal) {
    const answer = request(url, { signal, headers: { 'user-agent': userAgent() } }).then(async (response) => {
      await response.body.dump();
      return response.statusCode < 500 ? null : `it answers ${response.statusCode}`;
    });
    const cause = await answer.catch((error: unknown) => withoutCredentials((error as Error).message));
    if (cause === null) return [];
    const cure = 'Check that SUPABASE_URL is right and this machine reaches it.';
    return [
      { code: 'supabase_unreachable', severity: 'error', what: 'Supabase does not answer', cause, cure },
    ];
  },
});

/** How a storage that takes files is set up. */
function checkBuckets(storage: Pick<Storage, 'kind' | 'inspect'>): Check {
  return async (signal) =>
    ((await storage.inspect?.(signal).catch(() => [])) ?? []).map((message): Finding => ({
      check: 'environment_variables',
      subject: `${storage.kind} storage`,
      severity: 'error',
      message,
      cure: 'Make it public in Supabase, or set ASSET_URLS to signed.',
    }));
}

function missingFolder(engine: EngineKind, reason: string, severity: 'warning' | 'error'): Check {
  const finding: Finding = {
    check: 'model_paths',
    subject: engine,
    severity,
    message: reason,
    cure: 'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.',
  };
  return () => Promise.resolve([finding]);
}

/** No GPU is a warning: the pocket models run on the CPU, full-size ones do not in useful time. */
export function checkGpu(gpu: GpuMonitor): Check {
  return async () => {
    const reading = await gpu.read();
    return [
      reading === null
        ? {
            check: 'gpu_availability',
            subject: 'gpu',
            severity: 'warning',
            message: 'no GPU is visible: models run on the CPU',
            cure: 'On a GPU machine install the driver and see that nvidia-smi answers.',
          }
        : {
            check: 'gpu_availability',
            subject: 'gpu',
            severity: 'ok',
            message: `${reading.name}, ${formatGigabytes(reading.totalBytes)}`,
          },
    ];
  };
}

/**
 * Native packages must resolve; whether they load is the engines' report (`loaded`), since the server never
 * loads them itself.
 */
export function checkPackages(names: readonly string[]): Check {
  return async () =>
    names.map((name): Finding => {
      const version = packageVersion(name);
      return version === null
        ? {
            check: 'python_dependencies',
            subject: name,
            severity: 'error',
            message: 'not installed',
            cure: 'Run npm ci.',
          }
        : { check: 'python_dependencies', subject: name, severity: 'ok', message: version };
    });
}

/** Entry points of the engine processes exist. */
export function checkEntryPoints(files: readonly string[]): Check {
  return async () =>
    Promise.all(
      files.map(async (file): Promise<Finding> =>
        (await access(file, constants.R_OK).then(
          () => true,
          () => false,
        ))
          ? { check: 'worker_scripts', subject: file, severity: 'ok', message: 'present' }
          : {
              check: 'worker_scripts',
              subject: file,
              severity: 'error',
              message: 'missing',
              cure: 'Run npm run build.',
            },
      ),
    );
}

const run = promisify(execFile);

/** What each runtime must do to count as loaded; printed text is shown in the report. */
const probes = {
  'onnxruntime-node': `
    const { listSupportedBackends } = await import('onnxruntime-node');
    const here = listSupportedBackends().filter(({ bundled }) => bundled);
    console.log(here.map(({ name }) => name).join(', '));`,
  // It tries its binary in a child process, which must not inherit this one's --eval.
  'node-llama-cpp': `
    process.execArgv.length = 0;
    const { getLlama } = await import('node-llama-cpp');
    const options = { gpu: false, build: 'never', skipDownload: true, progressLogs: false };
    const { llamaCppRelease } = await getLlama(options);
    console.log('llama.cpp ' + llamaCppRelease.release);
    process.exit(0);`,
  sharp: `
    const { default: sharp } = await import('sharp');
    console.log('libvips ' + sharp.versions.vips);`,
} as const;
type NativeRuntime = keyof typeof probes;

/**
 * Loads native runtimes, each in a process of its own: one that crashes or blocks while it loads must not do
 * so here.
 */
export function checkNativeRuntimes(
  names: readonly NativeRuntime[] = Object.keys(probes) as NativeRuntime[],
  source: Record<NativeRuntime, string> = probes,
): Check {
  return async (signal) =>
    Promise.all(
      names.map(async (name): Promise<Finding> => {
        const subject = `${name} (native)`;
        try {
          const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', source[name]], {
            cwd: projectRoot(),
            signal,
            killSignal: 'SIGKILL',
          });
          return { check: 'python_dependencies', subject, severity: 'ok', message: stdout.trim() };
        } catch (error) {
          const { stderr, message } = error as { stderr?: string; message: string };
          const line =
            stderr
              ?.split('\n')
              .find((text) => /error/i.test(text))
              ?.trim() ??
            message.split('\n')[0] ??
            'unknown';
          return {
            check: 'python_dependencies',
            subject,
            severity: 'error',
            message: `does not load: ${line}`,
            cure: 'Run npm ci on this machine; its platform and C library must be those the package was installed for.',
          };
        }
      }),
    );
}
