import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Llama, LlamaContext, LlamaModel } from 'node-llama-cpp';
import { createChatFormat } from './chat-format.js';
import { createSequencePool } from './sequences.js';
import {
  chooseThreads,
  createPace,
  createStepTogether,
  createThreadLimit,
  type Pace,
  type ThreadLimit,
} from './threads.js';
import { describeFailure, EngineFailure, type EngineLog } from '../engine.js';

export interface ModelSettings {
  /** Prompts at the model together. */
  sequences: number;
  /** Tokens of prompt and answer together, for each sequence; the model's own window is the upper limit. */
  contextTokens: number;
  /** 0: measured. */
  threads: number;
}

/** Tokens of one evaluation: between two of them a cancellation is heard and others take part. */
export const promptChunk = 256;

export type TextModel = Awaited<ReturnType<typeof openModel>>;

/**
 * Loads a GGUF file and takes all the memory it will ever need: weights, and the cells of every sequence.
 * @throws EngineFailure `model_missing`, `model_invalid` (not a model llama.cpp reads) or `out_of_memory`
 */
export async function openModel(
  llama: Llama,
  file: string,
  settings: ModelSettings,
  log: EngineLog,
  limit = createThreadLimit(llama),
) {
  return limit.lift(() => load(llama, file, settings, log, limit));
}

async function load(llama: Llama, file: string, settings: ModelSettings, log: EngineLog, limit: ThreadLimit) {
  if (!(await stat(file).catch(() => null))?.isFile())
    throw new EngineFailure('model_missing', `The model file ${file} does not exist`);
  let model: LlamaModel | undefined;
  try {
    model = await llama.loadModel({ modelPath: file, gpuLayers: llama.gpu === false ? 0 : 'max' });
    const fixed = { threads: settings.threads, measured: {} };
    const { one, many } = settings.threads > 0 ? { one: fixed, many: fixed } : await chooseThreads(model);
    const contextSize = Math.min(settings.contextTokens, model.trainContextSize);
    const context = await model.createContext({
      contextSize,
      sequences: settings.sequences,
      threads: { ideal: many.threads, min: 1 },
      batchSize: Math.max(promptChunk, settings.sequences) * 2,
    });
    log('info', 'prompt model loaded', {
      file: path.basename(file),
      threads: one.threads,
      ms_per_token: one.measured,
      threads_together: many.threads,
      ms_together: many.measured,
      context_tokens: context.contextSize,
      sequences: settings.sequences,
    });
    return describe(model, context, file, createPace(limit, { one, many }));
  } catch (error) {
    await model?.dispose();
    throw loadFailure(error, file);
  }
}

function describe(model: LlamaModel, context: LlamaContext, file: string, pace: Pace) {
  const name = model.fileInfo.metadata.general?.name;
  return {
    name: name === undefined || name === '' ? path.basename(file, '.gguf') : name,
    model,
    contextSize: context.contextSize,
    formatChat: createChatFormat(model),
    pool: createSequencePool(Array.from({ length: context.totalSequences }, () => context.getSequence())),
    pace,
    steps: createStepTogether(pace),
    /** Device memory of weights and sequences, bytes. */
    deviceBytes: () => model.memoryUsage.vram + context.memoryUsage.vram,
    dispose: () => model.dispose(),
  };
}

function loadFailure(error: unknown, file: string): EngineFailure {
  if (error instanceof EngineFailure) return error;
  const { code, message } = describeFailure(error);
  if (code === 'out_of_memory' || /insufficient memory|too large for the available/i.test(message)) {
    return new EngineFailure(
      'out_of_memory',
      `There is not enough memory for ${path.basename(file)}: ${message}`,
      undefined,
      { cause: error },
    );
  }
  return new EngineFailure(
    'model_invalid',
    `The model file ${file} cannot be loaded: ${message}`,
    undefined,
    { cause: error },
  );
}

/** Which GGUF file completes texts and which one answers chats; one file may do both. */
export interface ModelFiles {
  completion: string;
  chat: string;
}

/** Later parts of a split model; llama.cpp finds them from the first. */
const laterPart = /-(?!0*1-of-)\d{5}-of-\d{5}\.gguf$/i;
const chatName = /instruct|chat/i;

/**
 * One file serves both purposes. Of two, the one called instruct or chat answers chats. `completionDir` holds
 * the base model where the two have folders of their own (the reference layout).
 * @throws EngineFailure `model_missing` without a GGUF file, `model_invalid` when the names do not tell which
 *   file to take
 */
export async function findModelFiles(modelDir: string, completionDir?: string): Promise<ModelFiles> {
  if (completionDir !== undefined)
    return {
      chat: only(await list(modelDir), modelDir),
      completion: only(await list(completionDir), completionDir),
    };
  const files = await list(modelDir);
  const chat = files.filter((file) => chatName.test(path.basename(file)));
  const base = files.filter((file) => !chatName.test(path.basename(file)));
  if (chat.length === 1 && base.length === 1)
    return { chat: chat[0] as string, completion: base[0] as string };
  const file = only(files, modelDir);
  return { chat: file, completion: file };
}

async function list(folder: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    throw new EngineFailure(
      'model_missing',
      `The model folder ${folder} cannot be read: ${(error as Error).message}`,
    );
  }
  const files = names
    .filter((name) => /\.gguf$/i.test(name) && !laterPart.test(name))
    .sort()
    .map((name) => path.join(folder, name));
  if (files.length === 0)
    throw new EngineFailure('model_missing', `The model folder ${folder} contains no .gguf file`);
  return files;
}

function only(files: string[], folder: string): string {
  const [file] = files;
  if (file === undefined || files.length > 1) {
    const names = files.map((each) => path.basename(each)).join(', ');
    throw new EngineFailure(
      'model_invalid',
      `The model folder ${folder} contains several models (${names}). Keep one, or one base and one instruct model.`,
    );
  }
  return file;
}
