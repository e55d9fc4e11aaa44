import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { EngineKind } from '../inference/engine-protocol.js';

export type ModelFolder = { dir: string } | { dir: null; reason: string };

/** Names of the reference layout, most exact first; the pocket models are called like their engine. */
const namesOf: Record<EngineKind, RegExp[]> = {
  sdxl: [/^sdxl$/i, /^sdxl[-_.]/i, /^stable-diffusion-xl/i],
  wan: [/^wan$/i, /^wan2\.1-(?:t2v|vace)-1\.3b$/i, /^wan/i],
  qwen: [/^qwen$/i, /^qwen2\.5-7b-instruct$/i, /^qwen/i],
};

/** Which folder under the models folder belongs to which engine, or why there is none. */
export async function findModelFolders(modelsDir: string): Promise<Record<EngineKind, ModelFolder>> {
  let names: string[] = [];
  let problem = '';
  try {
    names = (await readdir(modelsDir, { withFileTypes: true })).filter((entry) => entry.isDirectory() || entry.isSymbolicLink()).map((entry) => entry.name).sort();
  } catch (error) {
    problem = ` (${(error as NodeJS.ErrnoException).code ?? String(error)})`;
  }
  const find = (kind: EngineKind): ModelFolder => {
    for (const pattern of namesOf[kind]) {
      const name = names.find((each) => pattern.test(each));
      if (name !== undefined) return { dir: path.join(modelsDir, name) };
    }
    return { dir: null, reason: `there is no ${kind} model folder in ${modelsDir}${problem}` };
  };
  return { sdxl: find('sdxl'), wan: find('wan'), qwen: find('qwen') };
}
