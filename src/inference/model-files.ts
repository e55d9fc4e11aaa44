import { existsSync } from 'node:fs';
import path from 'node:path';
import { EngineFailure } from './engine.js';
import { requiredFiles } from './model-layout.js';

const kinds = { sdxl: { name: 'an SDXL', layout: 'docs/models.md' }, wan: { name: 'a Wan', layout: 'docs/export.md' } } as const;

/** @throws EngineFailure `model_missing` naming the files that are not there */
export function requireModelFiles(engine: keyof typeof requiredFiles, folder: string): void {
  const missing = requiredFiles[engine].filter((file) => !existsSync(path.join(folder, file)));
  const { name, layout } = kinds[engine];
  if (missing.length > 0) throw new EngineFailure('model_missing', `${folder} is not ${name} model folder: ${missing.join(', ')} missing (${layout} states the layout)`);
}
