/** Every branch of the fallback chain with real model processes, and what a job records of it. */
import { cp, mkdir, open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import type {
  EnhancePromptAnswer,
  EnhancePromptRequest,
} from '../../src/services/enhancement/enhancement-types.js';
import type { EnhancementLimits } from '../../src/services/enhancement/enhancement.js';
import { createJobEnhancer } from '../../src/services/jobs/enhance-job.js';
import type { EnhancementOutcome } from '../../src/services/jobs/plan.js';
import { engineEntry } from '../../src/services/engines/engine-options.js';
import { shapes, writeQwenGguf } from '../../tools/qwen-gguf.js';
import { silentLog, until } from '../engines/support.js';
import { pocketModel } from '../inference/llama/support.js';
import { createTestEnhancement } from './support.js';

t.setTimeout(180_000);
const { signal } = new AbortController();
const root = t.testdir();
const folder = (name: string) => path.join(root, name);

/**
 * Base and instruct model by name: the pocket model, one that never ends, one that ends before its first
 * word.
 */
const models = {
  pocket: pocketModel,
  endless: path.join(root, 'endless.gguf'),
  silent: path.join(root, 'silent.gguf'),
};
await writeQwenGguf(models.endless, shapes.small);
await writeQwenGguf(
  models.silent,
  { layers: 1, width: 64, heads: 2, kvHeads: 1, feedForward: 64, vocabulary: 2048, context: 2048 },
  { habit: 'silent' },
);
async function modelFolder(
  name: string,
  base: keyof typeof models,
  chat: keyof typeof models,
): Promise<void> {
  await mkdir(folder(name));
  await cp(models[base], path.join(folder(name), 'base.gguf'));
  await cp(models[chat], path.join(folder(name), 'instruct.gguf'));
}
await modelFolder('pocket', 'pocket', 'pocket');
await modelFolder('endless chat', 'pocket', 'endless');
await modelFolder('endless', 'endless', 'endless');
await modelFolder('silent chat', 'pocket', 'silent');
await modelFolder('silent', 'silent', 'silent');
await mkdir(folder('missing'));
await mkdir(folder('corrupt'));
await writeFile(path.join(folder('corrupt'), 'qwen.gguf'), 'GGUF and nothing that follows from it');
await mkdir(folder('truncated'));
await cp(pocketModel, path.join(folder('truncated'), 'qwen.gguf'));
await open(path.join(folder('truncated'), 'qwen.gguf'), 'r+').then(async (file) => {
  await file.truncate(5_000_000);
  await file.close();
});
await mkdir(folder('chat corrupt'));
await cp(pocketModel, path.join(folder('chat corrupt'), 'base.gguf'));
await writeFile(path.join(folder('chat corrupt'), 'instruct.gguf'), 'not a model');

interface Branch {
  name: string;
  folder: string;
  request?: Partial<EnhancePromptRequest>;
  limits?: Partial<EnhancementLimits>;
  /** What befalls the process at the first token of an answer, and how often. */
  signalAtFirstToken?: 'SIGKILL' | 'SIGSTOP';
  times?: number;
  answer: Partial<EnhancePromptAnswer> | { enhancedPrompt: RegExp };
  job: Partial<EnhancementOutcome> | { prompt: RegExp };
}

const prompt = 'a large red circle';
const chat = { model: 'qwen_instruct', sessionId: 's', owner: 'o' } as const;
const better = { success: true as const, enhancedPrompt: /^a large red circle.*, / };
const byBase = {
  type: 'base' as const,
  success: true,
  source: 'qwen_base' as const,
  prompt: better.enhancedPrompt,
};
const original = (type: 'base' | 'chat', reason: string) => ({
  answer: { success: false as const, reason },
  job: { type, success: false, source: 'original' as const, prompt },
});

const branches: Branch[] = [
  {
    name: 'base answers',
    folder: 'pocket',
    answer: { ...better, source: 'qwen_base', fallback: false, attempts: 1 },
    job: byBase,
  },
  {
    name: 'chat answers',
    folder: 'pocket',
    request: chat,
    answer: { ...better, source: 'qwen_instruct', fallback: false },
    job: { ...byBase, type: 'chat', source: 'qwen_instruct' },
  },
  {
    name: 'no session: base',
    folder: 'pocket',
    request: { model: 'qwen_instruct' },
    answer: {
      ...better,
      source: 'qwen_base',
      fallback: true,
      fallbackReason: 'A conversation needs a session_id',
    },
    job: byBase,
  },
  { name: 'no file', folder: 'missing', request: chat, ...original('chat', 'Model not available') },
  { name: 'a corrupt file', folder: 'corrupt', ...original('base', 'Model not available') },
  { name: 'a file that ends too early', folder: 'truncated', ...original('base', 'Model not available') },
  {
    name: 'only the chat model is corrupt: base',
    folder: 'chat corrupt',
    request: chat,
    answer: { ...better, source: 'qwen_base', fallback: true, fallbackReason: 'Model not available' },
    job: byBase,
  },
  {
    name: 'killed in the middle of every chat answer: base',
    folder: 'endless chat',
    request: chat,
    signalAtFirstToken: 'SIGKILL',
    times: 2,
    answer: {
      ...better,
      source: 'qwen_base',
      attempts: 3,
      fallback: true,
      fallbackReason: "The model's process ended",
    },
    job: byBase,
  },
  {
    name: 'killed in the middle of every answer',
    folder: 'endless',
    signalAtFirstToken: 'SIGKILL',
    ...original('base', "The model's process ended"),
  },
  {
    name: 'an answer that takes too long',
    folder: 'endless',
    limits: { deadlineMs: 600, keepWords: 0 },
    ...original('base', 'Timed out after 1 s'),
  },
  {
    name: 'a process that hangs in its answer',
    folder: 'endless',
    signalAtFirstToken: 'SIGSTOP',
    limits: { deadlineMs: 1500 },
    ...original('base', 'Timed out after 2 s'),
  },
  {
    name: 'an empty chat answer: base',
    folder: 'silent chat',
    request: chat,
    answer: {
      ...better,
      source: 'qwen_base',
      attempts: 3,
      fallback: true,
      fallbackReason: 'The model gave an empty answer',
    },
    job: byBase,
  },
  {
    name: 'empty answers',
    folder: 'silent',
    request: chat,
    ...original('chat', 'The model gave an empty answer'),
  },
  {
    name: 'the same text of both',
    folder: 'pocket',
    request: { ...chat, temperature: 0, maxTokens: 4 },
    ...original('chat', 'The model gave the prompt back unchanged'),
  },
];

async function harness(t: Test, branch: Branch) {
  const { enhancement, engines } = await createTestEnhancement(t, {
    engine: {
      entry: engineEntry(),
      heartbeatTimeoutMs: 20_000,
      cancelGraceMs: 20_000,
      load: { modelDir: folder(branch.folder), device: 'cpu', threads: 1, options: { sequences: 2 } },
    },
    limits: { deadlineMs: 30_000, ...branch.limits },
  });
  // Loading has its own time; the deadlines of this table are for answers.
  enhancement.preload();
  await until(
    'the model is there or not to be had',
    () => ['ready', 'failed'].includes(engines.status('qwen').state),
    30_000,
  );
  return { enhancement, engines };
}

for (const branch of branches) {
  t.test(branch.name, async (t) => {
    const { enhancement, engines } = await harness(t, branch);
    let tokens = 0;
    let left = branch.signalAtFirstToken === undefined ? 0 : (branch.times ?? Infinity);
    const strike = {
      onToken() {
        tokens += 1;
        if (tokens > 1 || left === 0) return;
        left -= 1;
        process.kill(engines.status('qwen').pid ?? 0, branch.signalAtFirstToken);
      },
      onDiscard() {
        tokens = 0;
      },
    };
    const deadlineMs = branch.limits?.deadlineMs ?? 30_000;
    const inTime = async <T>(work: () => Promise<T>): Promise<T> => {
      const startedMs = performance.now();
      const result = await work();
      const tookMs = performance.now() - startedMs;
      t.ok(tookMs < deadlineMs + 500, `${Math.round(tookMs)} of ${deadlineMs} ms`);
      return result;
    };

    t.match(
      await inTime(() => enhancement.enhance({ prompt, ...branch.request, ...strike }, signal)),
      branch.answer,
    );
    if (branch.signalAtFirstToken === 'SIGSTOP') {
      t.ok(tokens > 0, 'it hung in the middle of an answer');
      process.kill(engines.status('qwen').pid ?? 0, 'SIGCONT');
    }
    if (engines.status('qwen').state !== 'failed') {
      await engines.whenReady('qwen', { patient: true });
      await until(
        'no sequence is busy',
        async () => (await engines.call('qwen', 'memory', {})).busySequences === 0,
      );
    }
    t.same(enhancement.load(), { busy: 0, waiting: 0 });

    // The same as part of a job. Its prompts are not streamed: what befalls the process then is told above.
    if (branch.signalAtFirstToken !== undefined) return;
    const enhanceJob = createJobEnhancer({
      enhancement: {
        ...enhancement,
        enhance: (request, aborted) => enhancement.enhance({ ...branch.request, ...request }, aborted),
      },
      log: silentLog,
    });
    const { model, sessionId } = branch.request ?? {};
    const outcome = await inTime(() =>
      enhanceJob(
        {
          jobId: 'job',
          userId: 'user',
          prompt,
          type: model === 'qwen_instruct' ? 'chat' : 'base',
          target: 'video',
          ...(sessionId === undefined ? {} : { sessionId }),
        },
        signal,
      ),
    );
    t.match(outcome, branch.job);
  });
}
