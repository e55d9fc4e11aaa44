import path from 'node:path';
import type { Test } from 'tap';
import type { EngineEvent } from '../../../src/inference/engine-protocol.js';
import type { QwenGenerateParams } from '../../../src/inference/generation.js';
import type { RequestContext } from '../../../src/inference/engine.js';
import { openModel, type ModelSettings, type TextModel } from '../../../src/inference/llama/model.js';
import { openLlama } from '../../../src/inference/llama/runtime.js';
import { projectRoot } from '../../../src/lib/project.js';

export const pocketModel = path.join(projectRoot(), 'models/pocket/qwen/qwen.gguf');

/** A model in this process, where its sequences can be looked at. */
export async function openTextModel(
  t: Test,
  file = pocketModel,
  settings: Partial<ModelSettings> = {},
): Promise<TextModel> {
  const { llama } = await openLlama('cpu', () => {});
  t.teardown(() => llama.dispose());
  return openModel(llama, file, { sequences: 4, contextTokens: 1024, threads: 1, ...settings }, () => {});
}

export function requestContext(
  signal = new AbortController().signal,
  emit: (event: EngineEvent) => void = () => {},
): RequestContext {
  return { id: 'test', signal, emit, compute: (work) => work() };
}

export const instruction =
  'You rewrite short prompts for an image generator as detailed ones. Answer with the prompt alone, in one line.';

export function chatParams(text: string, rest: Partial<QwenGenerateParams> = {}): QwenGenerateParams {
  return {
    mode: 'chat',
    messages: [
      { role: 'system', content: instruction },
      { role: 'user', content: text },
    ],
    maxTokens: 160,
    maxInputTokens: 2048,
    temperature: 0,
    topP: 0.8,
    topK: 20,
    repeatPenalty: 1,
    stream: false,
    ...rest,
  };
}

const beginning =
  'Rewrite a short prompt for an image generator as one detailed prompt. Write one line.\n\nOriginal prompt: ';

export function completionParams(text: string, rest: Partial<QwenGenerateParams> = {}): QwenGenerateParams {
  return {
    ...chatParams(text),
    mode: 'completion',
    prompt: `${beginning}${text}\nEnhanced detailed prompt:`,
    sharedLength: beginning.length,
    ...rest,
  };
}
