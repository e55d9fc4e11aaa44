import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { EngineFailure } from '../engine.js';

/** Which GGUF file completes texts and which one answers chats; one file may do both. */
export interface ModelFiles {
  completion: string;
  chat: string;
}

/** Later parts of a split model; llama.cpp finds them from the first. */
const laterPart = /-(?!0*1-of-)\d{5}-of-\d{5}\.gguf$/i;
const chatName = /instruct|chat/i;

/**
 * One file serves both purposes. Of two, the one called instruct or chat answers chats. `completionDir` holds the base model
 * where the two have folders of their own (the reference layout).
 * @throws EngineFailure `model_missing` without a GGUF file, `model_invalid` when the names do not tell which file to take
 */
export async function findModelFiles(modelDir: string, completionDir?: string): Promise<ModelFiles> {
  if (completionDir !== undefined) return { chat: only(await list(modelDir), modelDir), completion: only(await list(completionDir), completionDir) };
  const files = await list(modelDir);
  const chat = files.filter((file) => chatName.test(path.basename(file)));
  const base = files.filter((file) => !chatName.test(path.basename(file)));
  if (chat.length === 1 && base.length === 1) return { chat: chat[0] as string, completion: base[0] as string };
  const file = only(files, modelDir);
  return { chat: file, completion: file };
}

async function list(folder: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw new EngineFailure('model_missing', `${folder} cannot be read: ${(error as Error).message}`);
  }
  const files = names.filter((name) => /\.gguf$/i.test(name) && !laterPart.test(name)).sort().map((name) => path.join(folder, name));
  if (files.length === 0) throw new EngineFailure('model_missing', `${folder} holds no .gguf file`);
  return files;
}

function only(files: string[], folder: string): string {
  const [file] = files;
  if (file === undefined || files.length > 1) {
    throw new EngineFailure('model_invalid', `${folder} holds several models (${files.map((each) => path.basename(each)).join(', ')}): keep one, or one base and one instruct model`);
  }
  return file;
}
