import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { pino } from 'pino';
import { projectRoot } from '../../src/lib/project.js';
import { createEngines } from '../../src/services/engines/engines.js';
import { emptyDenyList } from '../../src/services/enhancement/deny-list.js';
import { createEnhancement } from '../../src/services/enhancement/enhancement.js';
import { createMemorySessions } from '../../src/services/enhancement/sessions.js';
import { readTemplates } from '../../src/services/enhancement/templates.js';
import { engineEntry } from '../../src/services/engines/engine-options.js';
import type {
  EnhancePromptAnswer,
  EnhancePromptRequest,
} from '../../src/services/enhancement/enhancement-types.js';

export type Answered = EnhancePromptAnswer & { success: true };
export type Harness = Awaited<ReturnType<typeof startHarness>>;

/**
 * The service's enhancement and its engine process on the models of a folder; threads are chosen at the load,
 * as in the service.
 */
export async function startHarness(
  modelDir: string,
  { sequences, keepWords = 0 }: { sequences: number; keepWords?: number },
) {
  const log = pino({ level: 'silent' });
  const loads: Array<Record<string, unknown>> = [];
  const engines = createEngines({
    engines: [
      {
        kind: 'qwen',
        entry: engineEntry(),
        env: { PATH: process.env['PATH'] },
        lazy: true,
        log: pino(
          { level: 'info' },
          { write: (line) => void loads.push(JSON.parse(line) as Record<string, unknown>) },
        ),
        load: { modelDir, device: 'cpu', threads: 0, options: { sequences, contextTokens: 1024 } },
      },
    ],
  });
  const enhancement = createEnhancement({
    engines,
    denyList: emptyDenyList,
    log,
    templates: await readTemplates(path.join(projectRoot(), 'prompts/enhancement')),
    sessions: createMemorySessions({ ttlMs: 60_000, maxTurns: 4, maxSessions: 1000 }),
    limits: { places: sequences, maxAttempts: 1, keepWords, idleMs: 0, deadlineMs: 600_000 },
  });
  await engines.whenReady('qwen', {});
  const { signal } = new AbortController();
  return {
    /** What the engine logged of its threads. */
    threads: (): string => {
      const load = loads.find((line) => line['msg'] === 'prompt model loaded') ?? {};
      const times = (measured: unknown) =>
        Object.entries(measured ?? {})
          .map(([count, ms]) => `${count}: ${String(ms)} ms`)
          .join(', ');
      return `threads for one ${String(load['threads'])} (a token with ${times(load['ms_per_token'])}), together ${String(load['threads_together'])} (eight tokens with ${times(load['ms_together'])})`;
    },
    async ask(request: EnhancePromptRequest): Promise<Answered & { ms: number; firstTokenMs: number }> {
      const startedMs = performance.now();
      let firstTokenMs = Number.NaN;
      const answer = await enhancement.enhance(
        {
          ...request,
          onToken: () => {
            if (Number.isNaN(firstTokenMs)) firstTokenMs = performance.now() - startedMs;
          },
        },
        signal,
      );
      if (!answer.success) throw new Error(`${request.prompt}: ${answer.reason}`);
      return { ...answer, ms: performance.now() - startedMs, firstTokenMs };
    },
    async stop(): Promise<void> {
      await enhancement.stop();
      await engines.stop({ force: true });
    },
  };
}

/** Held-out prompts of the pocket worlds. */
export async function pocketPrompts(): Promise<string[]> {
  const items = JSON.parse(
    await readFile(path.join(projectRoot(), 'test/fixtures/pocket-qwen.json'), 'utf8'),
  ) as Array<{ kind: string; prompt: string }>;
  return items.filter(({ kind }) => kind === 'world').map(({ prompt }) => prompt);
}
