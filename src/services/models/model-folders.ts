import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { EngineKind } from '../../inference/engine-protocol.js';

/** `completionDir`: the base model's folder, where `dir` holds an instruct model only. */
export type ModelFolder = { dir: string; completionDir?: string } | { dir: null; reason: string };

/** Names of the reference layout, most exact first; the pocket models are called like their engine. */
const namesOf: Record<EngineKind, RegExp[]> = {
  sdxl: [/^sdxl$/i, /^sdxl[-_.]/i, /^stable-diffusion-xl/i],
  wan: [/^wan$/i, /^wan2\.1-(?:t2v|vace)-1\.3b$/i, /^wan/i],
  qwen: [/^qwen$/i, /^qwen2\.5-7b-instruct$/i, /^qwen[\w.-]*-instruct/i, /^qwen/i],
};
const instructModel = /-instruct/i;

/** Which folder under the models folder belongs to which engine, or why there is none. */
export async function findModelFolders(modelsDir: string): Promise<Record<EngineKind, ModelFolder>> {
  let names: string[] = [];
  let problem = '';
  try {
    names = (await readdir(modelsDir, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
      .map((entry) => entry.name)
      .sort();
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
  return { sdxl: find('sdxl'), wan: find('wan'), qwen: withBaseModel(find('qwen'), names) };
}

/** `Qwen2.5-7B` stands beside `Qwen2.5-7B-Instruct`: the one completes, the other one chats. */
function withBaseModel(found: ModelFolder, names: readonly string[]): ModelFolder {
  if (found.dir === null || !instructModel.test(path.basename(found.dir))) return found;
  const wanted = path.basename(found.dir).split(instructModel)[0]?.toLowerCase();
  const base = names.find((name) => name.toLowerCase() === wanted);
  return base === undefined ? found : { ...found, completionDir: path.join(path.dirname(found.dir), base) };
}
