import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir, statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Check, CheckName, Finding } from './validation.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { describePlan, expectedFootprints } from '../card/index.js';
import { type VideoEncoder, videoToolsCure } from '../../lib/video-tools.js';
import { withoutCredentials } from '../../lib/printable.js';
import { packageVersion, projectRoot } from '../../lib/project.js';
import { formatGigabytes, gibibyte } from '../../lib/units.js';

/** Writable and with room: a full disk fails jobs late and unclearly. */
export function checkDataFolder(folder: string, leastFreeBytes = gibibyte): Check {
  return async () => {
    const subject = 'DATA_DIR';
    try {
      await mkdir(folder, { recursive: true });
      await access(folder, constants.W_OK);
    } catch (error) {
      return [
        {
          check: 'environment_variables',
          subject,
          severity: 'error',
          message: `${folder} cannot be written: ${(error as Error).message}`,
          cure: 'Choose a folder this user may write.',
        },
      ];
    }
    const { bavail, bsize } = await statfs(folder);
    const free = bavail * bsize;
    return [
      free < leastFreeBytes
        ? {
            check: 'environment_variables',
            subject,
            severity: 'error',
            message: `only ${formatGigabytes(free)} free under ${folder}`,
            cure: 'Free some space or choose another DATA_DIR.',
          }
        : {
            check: 'environment_variables',
            subject,
            severity: 'ok',
            message: `${formatGigabytes(free)} free under ${folder}`,
          },
    ];
  };
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

/** Which models the card holds, and how: known before the first job. */
export function checkCardPlan(gpu: GpuMonitor, folders: Parameters<typeof expectedFootprints>[1]): Check {
  return async () => {
    const capacity = (await gpu.read())?.totalBytes ?? null;
    if (capacity === null) return [];
    const here = (['sdxl', 'wan', 'qwen'] as const).filter((kind) => folders[kind].dir !== null);
    return describePlan(await expectedFootprints(here, folders), capacity).map(
      ({ fits, ...finding }): Finding => ({
        check: 'gpu_availability',
        ...finding,
        severity: fits ? 'ok' : 'warning',
      }),
    );
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

/** A program found by running it; `severity` is what its absence means. */
export function checkProgram(
  subject: string,
  probe: (signal: AbortSignal) => Promise<string | null>,
  missing: { severity: 'warning' | 'error'; message: string; cure: string },
): Check {
  return async (signal) => {
    const version = await probe(signal);
    return [
      version === null
        ? { check: 'python_dependencies', subject, ...missing }
        : { check: 'python_dependencies', subject, severity: 'ok', message: version },
    ];
  };
}

/** A server answers; the time it took is reported. */
export function checkServer(
  subject: string,
  ping: (signal: AbortSignal) => Promise<void>,
  cure: string,
  check: CheckName = 'environment_variables',
): Check {
  return async (signal) => {
    const startedAt = performance.now();
    try {
      await ping(signal);
    } catch (error) {
      return [
        {
          check,
          subject,
          severity: 'error',
          message: withoutCredentials(error instanceof Error ? error.message : String(error)),
          cure,
        },
      ];
    }
    const latencyMs = Math.round((performance.now() - startedAt) * 10) / 10;
    return [{ check, subject, severity: 'ok', message: `answers in ${latencyMs} ms`, latencyMs }];
  };
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

/** Without an encoder pictures are still made. */
export function checkFfmpeg(encoder: Pick<VideoEncoder, 'find'>): Check {
  return checkProgram('ffmpeg', async (signal) => (await encoder.find(signal))?.version ?? null, {
    severity: 'warning',
    message: 'not found: videos cannot be encoded',
    cure: videoToolsCure,
  });
}
