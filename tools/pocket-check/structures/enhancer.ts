import path from 'node:path';
import { pino } from 'pino';
import type { RequestContext } from '../../../src/inference/engine.js';
import { createQwenEngine } from '../../../src/inference/llama/engine.js';
import { projectRoot } from '../../../src/lib/project.js';
import { emptyDenyList } from '../../../src/services/enhancement/deny-list.js';
import { createEnhancement, type EnhancementParts } from '../../../src/services/enhancement/enhancement.js';
import { createMemorySessions } from '../../../src/services/enhancement/sessions.js';
import { readTemplates } from '../../../src/services/enhancement/templates.js';
import { timesOf } from '../fixtures.js';

export interface Asked {
  prompt: string;
  target: 'image' | 'video';
  seed: number;
  chat: boolean;
  context?: string;
}

/** The service's enhancement as a request meets it, its Qwen engine in this process and no other engine. */
export async function openEnhancer(modelDir: string, temperature: number) {
  const engine = createQwenEngine();
  await engine.load({ modelDir: path.resolve(modelDir), device: 'cpu', threads: 1 }, () => {});
  const engineContext = (signal: AbortSignal): RequestContext => ({
    id: 'score',
    signal,
    emit() {},
    compute: (work) => work(),
  });
  const ready = { state: 'ready' };
  const engines = {
    has: (name: string) => name === 'qwen',
    status: () => ready,
    whenReady: async () => ready,
    release: async () => {},
    describePrompt: () => Promise.reject(new Error('no SDXL engine here')),
    call: (_name: string, _method: string, params: never, { signal }: { signal?: AbortSignal } = {}) =>
      engine.methods['qwen.generate']?.(params, engineContext(signal ?? new AbortController().signal)),
  } as unknown as EnhancementParts['engines'];
  const service = createEnhancement({
    engines,
    templates: await readTemplates(path.join(projectRoot(), 'prompts/enhancement')),
    denyList: emptyDenyList,
    sessions: createMemorySessions({ ttlMs: 60_000, maxTurns: 10, maxSessions: 10_000 }),
    log: pino({ level: 'silent' }),
    limits: { attemptWaitMs: 0 },
  });
  const milliseconds: number[] = [];
  let [asked, attempts] = [0, 0];
  return {
    /** The finished prompt, or null where the service has none. */
    async ask({ prompt, target, seed, chat, context }: Asked): Promise<string | null> {
      const startedMs = performance.now();
      const answer = await service.enhance(
        {
          prompt,
          target,
          seed,
          temperature,
          ...(chat ? { model: 'qwen_instruct', sessionId: `${target}-${seed}-${asked}` } : {}),
          ...(context === undefined ? {} : { conversationContext: context }),
        },
        new AbortController().signal,
      );
      asked += 1;
      milliseconds.push(performance.now() - startedMs);
      if (!answer.success) return null;
      attempts += answer.attempts;
      return answer.enhancedPrompt;
    },
    report(): string {
      return `${asked} prompts, ${attempts} attempts; ${timesOf(milliseconds)}`;
    },
    async close(): Promise<void> {
      await service.stop();
      await engine.unload();
    },
  };
}
