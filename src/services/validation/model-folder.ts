import { access, constants, open, readFile, readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { requiredFiles } from '../../inference/model-layout.js';
import { problemsOfGraphs } from './model-graphs.js';
import type { Check, Finding } from './types.js';

const cure = 'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.';

/** Files present, readable, not empty and not Git LFS pointers; config files are JSON; graphs have the types and shapes that are fed to them. Never reads weights. */
export function checkModelFolder(engine: 'sdxl' | 'wan', folder: string): Check {
  return async () => {
    const findings = await Promise.all(requiredFiles[engine].map(async (name) => inspect(path.join(folder, name))));
    const missing = findings.filter((problem) => problem !== null);
    const wrong = missing.length > 0 ? missing : await problemsOfGraphs(engine, folder);
    if (wrong.length === 0 && engine === 'wan' && await inspect(path.join(folder, 'vae_encoder/init.onnx')) !== null) {
      return [{ check: 'model_paths', subject: engine, severity: 'warning', message: `${folder} has no vae_encoder: jobs with reference pictures are refused`, cure: 'Export the model again with its VAE encoder (docs/export.md).' }];
    }
    if (wrong.length === 0) return [{ check: 'model_paths', subject: engine, severity: 'ok', message: folder }];
    return wrong.map((message): Finding => ({ check: 'model_paths', subject: engine, severity: 'error', message, cure }));
  };
}

/** Qwen needs one GGUF file a folder, known by its first four bytes. Without one enhancement is off, jobs still run. */
export function checkQwenFolder(...folders: Array<string | undefined>): Check {
  return async () => (await Promise.all(folders.filter((folder) => folder !== undefined).map(inspectQwenFolder))).flat();
}

async function inspectQwenFolder(folder: string): Promise<Finding[]> {
  const names = (await readdir(folder).catch(() => [] as string[])).filter((name) => name.endsWith('.gguf'));
  if (names.length === 0) {
    return [{ check: 'model_paths', subject: 'qwen', severity: 'warning', message: `${folder} holds no .gguf file: prompts are used as they come`, cure: 'Put a Qwen2.5 GGUF file there.' }];
  }
  return Promise.all(names.map(async (name): Promise<Finding> => {
    const problem = await inspect(path.join(folder, name)) ?? ((await firstBytes(path.join(folder, name), 4)).toString('latin1') === 'GGUF' ? null : `${name} is not a GGUF file`);
    return problem === null
      ? { check: 'model_paths', subject: 'qwen', severity: 'ok', message: path.join(folder, name) }
      : { check: 'model_paths', subject: 'qwen', severity: 'error', message: problem, cure: 'Download the file again.' };
  }));
}

async function inspect(file: string): Promise<string | null> {
  const info = await stat(file).catch(() => null);
  if (info === null) return `${file} is missing`;
  if (!info.isFile() || info.size === 0) return `${file} is empty or not a file`;
  if (await access(file, constants.R_OK).then(() => false, () => true)) return `${file} is not readable by this user`;
  if (file.endsWith('.json')) {
    try {
      JSON.parse(await readFile(file, 'utf8'));
    } catch {
      return `${file} is not valid JSON`;
    }
  }
  if ((await firstBytes(file, 24)).toString('latin1').startsWith('version https://git-lfs')) return `${file} is a Git LFS pointer, not the file itself`;
  return null;
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
