import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import { ownProgram } from '../../../src/lib/processes.js';
import { projectRoot } from '../../../src/lib/project.js';

const main = ownProgram('src/cli/main');
const environment = (home: string, extra: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  HOME: home,
  HF_HOME: path.join(home, 'hf'),
  ...extra,
});

/** Runs `ourvidz models …` to its end. */
export function models(
  home: string,
  args: string[],
  extra: NodeJS.ProcessEnv = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...main, 'models', ...args],
      { cwd: home, env: environment(home, extra) },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

/** Starts one that the test ends. */
export function startModels(home: string, args: string[], extra: NodeJS.ProcessEnv = {}): ChildProcess {
  return spawn(process.execPath, [...main, 'models', ...args], {
    cwd: home,
    env: environment(home, extra),
    stdio: 'ignore',
  });
}

/** The files of the pocket SDXL as its publisher's repository would hold them. */
export const pocketSdxl = () => filesBelow('models/pocket/sdxl');

export async function filesBelow(folder: string): Promise<Record<string, Buffer>> {
  const root = path.join(projectRoot(), folder);
  const files: Record<string, Buffer> = {};
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() && !entry.isSymbolicLink()) continue;
    const file = path.join(entry.parentPath, entry.name);
    files[path.relative(root, file)] = await readFile(file);
  }
  return files;
}

export const pocketQwen = async () => readFile(path.join(projectRoot(), 'models/pocket/qwen/qwen.gguf'));

export const sdxlRepository = 'stabilityai/stable-diffusion-xl-base-1.0';
export const qwenRepository = 'Qwen/Qwen2.5-7B-Instruct-GGUF';
