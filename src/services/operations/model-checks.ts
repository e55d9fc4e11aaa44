import { access, constants, open, readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { describePlan, expectedFootprints } from '../card/index.js';
import { problemsOfGraphs } from './model-graphs.js';
import { type Check, type Finding, findingOf } from './validation.js';
import { type EnginesView, engineTroubles, isUp } from '../engines/engine-status.js';
import type { EngineKind } from '../../inference/engine-protocol.js';
import { requiredFiles } from '../../inference/checkpoint/model-layout.js';

const cure =
  'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.';

/**
 * Files present, readable, not empty and not Git LFS pointers; config files are JSON; graphs have the types
 * and shapes that are fed to them. Never reads weights.
 */
export function checkModelFolder(engine: 'sdxl' | 'wan', folder: string): Check {
  return async () => {
    const findings = await Promise.all(requiredFiles(engine, folder).map(async (file) => inspect(file)));
    const missing = findings.filter((problem) => problem !== null);
    const wrong = missing.length > 0 ? missing : await problemsOfGraphs(engine, folder);
    if (
      wrong.length === 0 &&
      engine === 'wan' &&
      (await inspect(path.join(folder, 'vae_encoder/init.onnx'))) !== null
    ) {
      return [
        {
          check: 'model_paths',
          subject: engine,
          severity: 'warning',
          message: `${folder} has no vae_encoder: jobs with reference pictures are refused`,
          cure: 'Use the checkpoint instead of this export, or one with its VAE encoder (docs/export.md).',
        },
      ];
    }
    if (wrong.length === 0)
      return [{ check: 'model_paths', subject: engine, severity: 'ok', message: folder }];
    return wrong.map((message): Finding => ({
      check: 'model_paths',
      subject: engine,
      severity: 'error',
      message,
      cure,
    }));
  };
}

/**
 * Qwen needs one GGUF file a folder, known by its first four bytes. Without one enhancement is off, jobs
 * still run.
 */
export function checkQwenFolder(...folders: Array<string | undefined>): Check {
  return async () =>
    (await Promise.all(folders.filter((folder) => folder !== undefined).map(inspectQwenFolder))).flat();
}

async function inspectQwenFolder(folder: string): Promise<Finding[]> {
  const names = (await readdir(folder).catch(() => [] as string[])).filter((name) => name.endsWith('.gguf'));
  if (names.length === 0) {
    return [
      {
        check: 'model_paths',
        subject: 'qwen',
        severity: 'warning',
        message: `${folder} holds no .gguf file: prompts are used as they come`,
        cure: 'Put a Qwen2.5 GGUF file there.',
      },
    ];
  }
  return Promise.all(
    names.map(async (name): Promise<Finding> => {
      const problem =
        (await inspect(path.join(folder, name))) ??
        ((await firstBytes(path.join(folder, name), 4)).toString('latin1') === 'GGUF'
          ? null
          : `${name} is not a GGUF file`);
      return problem === null
        ? { check: 'model_paths', subject: 'qwen', severity: 'ok', message: path.join(folder, name) }
        : {
            check: 'model_paths',
            subject: 'qwen',
            severity: 'error',
            message: problem,
            cure: 'Download the file again.',
          };
    }),
  );
}

async function inspect(file: string): Promise<string | null> {
  const info = await stat(file).catch(() => null);
  if (info === null) return `${file} is missing`;
  if (!info.isFile() || info.size === 0) return `${file} is empty or not a file`;
  if (
    await access(file, constants.R_OK).then(
      () => false,
      () => true,
    )
  )
    return `${file} is not readable by this user`;
  if (file.endsWith('.json') && !(await isJson(file, info.size))) return `${file} is not valid JSON`;
  if ((await firstBytes(file, 24)).toString('latin1').startsWith('version https://git-lfs'))
    return `${file} is a Git LFS pointer, not the file itself`;
  return null;
}

/** Tokenizers have megabytes: they are read in a thread of their own, not in the one that answers. */
const mostBytesHere = 64 * 1024;
const parse =
  "JSON.parse(require('node:fs').readFileSync(require('node:worker_threads').workerData, 'utf8'))";

async function isJson(file: string, bytes: number): Promise<boolean> {
  if (bytes <= mostBytesHere)
    try {
      JSON.parse(await readFile(file, 'utf8'));
      return true;
    } catch {
      return false;
    }
  const reader = new Worker(parse, { eval: true, workerData: file });
  return new Promise((resolve) => {
    reader.once('error', () => resolve(false));
    reader.once('exit', (code) => resolve(code === 0));
  });
}

async function firstBytes(file: string, count: number): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(count), 0, count, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/**
 * What the engines found out by loading their models, which nothing else can: graphs with wrong shapes or
 * dtypes, a provider library that is missing, a device that another one was taken for.
 */
export function checkEngines(
  engines: Pick<EnginesView, 'has' | 'status'>,
  kinds: readonly EngineKind[] = ['sdxl', 'wan', 'qwen'],
): Check {
  return async () => {
    const troubles = engineTroubles(engines);
    return kinds
      .filter((kind) => engines.has(kind))
      .flatMap((kind): Finding[] => {
        const status = engines.status(kind);
        const { state, reason, loaded } = status;
        const subject = `${kind} engine`;
        const trouble = troubles.find(({ target }) => target === kind);
        const where = loaded === null ? '' : ` on ${loaded.device} with ${loaded.model.name}`;
        const message = `${state.replace('_', ' ')}${where}${reason === null ? '' : `: ${reason}`}`;
        const notUp = { severity: 'warning', cure: 'Wait until it is ready, then validate again.' } as const;
        return [
          trouble === undefined
            ? { check: 'model_paths', subject, message, ...(isUp(status) ? { severity: 'ok' } : notUp) }
            : findingOf('model_paths', subject, trouble),
          ...(loaded?.deviceNotes ?? []).map((note): Finding => ({
            check: 'gpu_availability',
            subject,
            severity: 'warning',
            message: note,
            cure: 'Install what it names, or set ORT_DEVICE to the device you want.',
          })),
        ];
      });
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
