import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Llama, LlamaContext, LlamaModel } from 'node-llama-cpp';
import { describeFailure, EngineFailure, type EngineLog } from '../engine.js';
import { createChatFormat } from './chat-format.js';
import { createPace, createThreadLimit, type Pace, type ThreadLimit } from './pace.js';
import { createSequencePool } from './sequences.js';
import { createStepTogether } from './step-together.js';
import { chooseThreads } from './threads.js';

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
export async function openModel(llama: Llama, file: string, settings: ModelSettings, log: EngineLog, limit = createThreadLimit(llama)) {
  return limit.lift(() => load(llama, file, settings, log, limit));
}

async function load(llama: Llama, file: string, settings: ModelSettings, log: EngineLog, limit: ThreadLimit) {
  if (!(await stat(file).catch(() => null))?.isFile()) throw new EngineFailure('model_missing', `${file} is no file`);
  let model: LlamaModel | undefined;
  try {
    model = await llama.loadModel({ modelPath: file, gpuLayers: llama.gpu === false ? 0 : 'max' });
    const fixed = { threads: settings.threads, measured: {} };
    const { one, many } = settings.threads > 0 ? { one: fixed, many: fixed } : await chooseThreads(model);
    const contextSize = Math.min(settings.contextTokens, model.trainContextSize);
    const context = await model.createContext({ contextSize, sequences: settings.sequences, threads: { ideal: many.threads, min: 1 }, batchSize: Math.max(promptChunk, settings.sequences) * 2 });
    log('info', 'prompt model loaded', { file: path.basename(file), threads: one.threads, ms_per_token: one.measured, threads_together: many.threads, ms_together: many.measured, context_tokens: context.contextSize, sequences: settings.sequences });
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
    return new EngineFailure('out_of_memory', `there is not enough memory for ${path.basename(file)}: ${message}`, undefined, { cause: error });
  }
  return new EngineFailure('model_invalid', `${file} cannot be loaded: ${message}`, undefined, { cause: error });
}
