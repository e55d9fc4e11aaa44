import { setMaxListeners } from 'node:events';
import type { Llama } from 'node-llama-cpp';
import { generate } from './generate.js';
import { findModelFiles, type ModelFiles, type ModelSettings, openModel, type TextModel } from './model.js';
import { openLlama } from './runtime.js';
import { createThreadLimit, type ThreadLimit } from './threads.js';
import { type QwenGenerateParams, textDefaults } from '../generation.js';
import { type Engine, EngineFailure, type EngineLog, type RequestContext } from '../engine.js';

interface Loaded {
  llama: Llama;
  limit: ThreadLimit;
  files: ModelFiles;
  settings: ModelSettings;
  log: EngineLog;
  /** By file; one that failed to open is tried again. */
  models: Map<string, Promise<TextModel>>;
}

/**
 * Qwen behind the engine protocol. Requests run side by side on sequences of their own. Where base and
 * instruct model are two files, the base model is loaded at start and the instruct model with the first chat.
 */
export function createQwenEngine(): Engine {
  let loaded: Loaded | undefined;
  const ready = (): Loaded => {
    if (loaded === undefined) throw new EngineFailure('not_loaded', 'The prompt model is not loaded');
    return loaded;
  };

  function open({ llama, limit, settings, log, models }: Loaded, file: string): Promise<TextModel> {
    let model = models.get(file);
    if (model === undefined) {
      model = openModel(llama, file, settings, log, limit);
      models.set(file, model);
      model.catch(() => models.delete(file));
    }
    return model;
  }

  async function answer(params: QwenGenerateParams, context: RequestContext) {
    const current = ready();
    const file = current.files[params.mode];
    if (!current.models.has(file)) context.emit({ kind: 'progress', stage: 'load', step: 0, steps: 1 });
    // One listener of the pool and of every wait at a time, for as many waits as an answer has.
    setMaxListeners(0, context.signal);
    return generate(await open(current, file), params, context);
  }

  async function unload(): Promise<void> {
    const { llama, models } = loaded ?? {};
    loaded = undefined;
    for (const model of models?.values() ?? [])
      await model.then(
        ({ dispose }) => dispose(),
        () => {},
      );
    await llama?.dispose();
  }

  return {
    async load({ modelDir, device: preference, threads, options = {} }, log) {
      const startedAt = performance.now();
      const { sequences, contextTokens } = { ...textDefaults, ...options };
      const { completionDir } = options;
      const files = await findModelFiles(
        modelDir,
        completionDir === undefined ? undefined : String(completionDir),
      );
      await unload();
      const { llama, device, notes } = await openLlama(preference, log);
      const opening: Loaded = {
        llama,
        limit: createThreadLimit(llama),
        files,
        log,
        settings: { sequences: Number(sequences), contextTokens: Number(contextTokens), threads },
        models: new Map(),
      };
      let first: TextModel;
      try {
        first = await open(opening, files.completion);
      } catch (error) {
        await llama.dispose();
        throw error;
      }
      loaded = opening;
      const chats = files.chat !== files.completion || first.formatChat !== null;
      return {
        device,
        deviceNotes: notes,
        loadSeconds: (performance.now() - startedAt) / 1000,
        model: { name: first.name, features: ['completion', ...(chats ? ['chat'] : [])] },
      };
    },

    async warmUp(context) {
      await answer(
        {
          mode: 'completion',
          prompt: 'a red circle',
          maxTokens: 4,
          maxInputTokens: 64,
          temperature: 0,
          topP: 1,
          topK: 1,
          repeatPenalty: 1,
          stream: false,
        },
        context,
      );
    },

    methods: { 'qwen.generate': answer },

    async memory() {
      if (loaded === undefined) return {};
      const models = (await Promise.allSettled(loaded.models.values())).flatMap((each) =>
        each.status === 'fulfilled' ? [each.value] : [],
      );
      return {
        ...(loaded.llama.gpu === false
          ? {}
          : { deviceBytes: models.reduce((sum, { deviceBytes }) => sum + deviceBytes(), 0) }),
        busySequences: models.reduce((sum, { pool }) => sum + pool.busy(), 0),
      };
    },

    unload,
  };
}
