/**
 * A qwen engine process that answers as the prompt tells it, over the real protocol and as a real child
 * process; the model's own tests are in test/inference/llama. `load.options.onLoad`: `missing`, `invalid`,
 * `hang`, `slow`. Rules stand in the prompt as `[chat: rule; rule]` and `[base: rule; rule]`, one rule an
 * attempt, the last one for all others.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { EngineErrorBody, FromEngine, ToEngine } from '../../src/inference/engine-protocol.js';
import type { QwenGenerateParams, QwenGenerateResult } from '../../src/inference/generation.js';

const send = (message: FromEngine) => process.send?.(message);
const running = new Map<string, AbortController>();
const attempts = new Map<string, number>();

class Failure extends Error {
  constructor(readonly body: EngineErrorBody) {
    super(body.message);
  }
}

new Worker(
  `const { writeSync } = require('node:fs'); setInterval(() => { try { writeSync(4, JSON.stringify({ at: Date.now(), rssBytes: process.memoryUsage.rss() }) + '\\n') } catch {} }, 50);`,
  { eval: true },
);
process.on('disconnect', () => process.exit(0));
process.on('message', (message: ToEngine) => {
  if (message.type === 'cancel') {
    running.get(message.id)?.abort();
    return;
  }
  const controller = new AbortController();
  running.set(message.id, controller);
  handle(message, controller.signal)
    .then(
      (result) => send({ type: 'result', id: message.id, result }),
      (error: unknown) =>
        send({
          type: 'error',
          id: message.id,
          error: controller.signal.aborted
            ? { code: 'cancelled', message: 'cancelled' }
            : error instanceof Failure
              ? error.body
              : { code: 'engine_failed', message: String(error) },
        }),
    )
    .finally(() => running.delete(message.id));
});
send({ type: 'hello', engine: 'qwen', pid: process.pid });

async function handle(
  request: Extract<ToEngine, { type: 'request' }>,
  signal: AbortSignal,
): Promise<unknown> {
  switch (request.method) {
    case 'load': {
      const onLoad = request.params.options?.['onLoad'];
      if (onLoad === 'missing') throw new Failure({ code: 'model_missing', message: 'no GGUF file there' });
      if (onLoad === 'invalid') throw new Failure({ code: 'model_invalid', message: 'no GGUF file' });
      if (onLoad === 'hang') await new Promise(() => {});
      if (onLoad === 'slow') await sleep(300);
      return { device: 'cpu', deviceNotes: [], loadSeconds: 0.01, model: { name: 'scripted', features: [] } };
    }
    case 'warmUp':
      return { seconds: 0 };
    case 'memory':
      return { rssBytes: process.memoryUsage().rss, heapBytes: process.memoryUsage().heapUsed };
    case 'qwen.generate':
      return generate(request.id, request.params, signal);
    default:
      throw new Failure({ code: 'invalid_parameters', message: `no method ${request.method}` });
  }
}

async function generate(
  id: string,
  params: QwenGenerateParams,
  signal: AbortSignal,
): Promise<QwenGenerateResult> {
  const strategy = params.mode === 'chat' ? 'chat' : 'base';
  const prompt =
    params.mode === 'chat'
      ? (params.messages?.at(-1)?.content ?? '')
      : (/Original prompt: (.*)\n/.exec(params.prompt ?? '')?.[1] ?? '');
  const rules = new RegExp(`\\[${strategy}: ([^\\]]*)\\]`).exec(prompt)?.[1]?.split('; ') ?? ['good'];
  const key = `${strategy} ${prompt}`;
  const attempt = attempts.get(key) ?? 0;
  attempts.set(key, attempt + 1);
  const rule = rules[Math.min(attempt, rules.length - 1)] ?? '';
  const [name = '', ...rest] = rule.split(' ');
  const emit = (text: string) => {
    if (params.stream) send({ type: 'event', id, event: { kind: 'token', text } });
  };
  const end = (text: string, stopReason: QwenGenerateResult['stopReason'] = 'eos'): QwenGenerateResult => ({
    text,
    model: 'scripted',
    promptTokens: 10,
    completionTokens: 5,
    stopReason,
    seconds: 0.01,
  });
  emit('Enhanced ');
  switch (name) {
    case 'same':
      return end(`Enhanced detailed prompt: ${prompt}`);
    case 'empty':
      return end(' \n');
    case 'lost':
      return end('something else entirely');
    case 'exactly':
      return end(rest.join(' '));
    case 'context':
      return end("Previous prompt: 'a cat' → Enhanced: 'a cat in soft light'");
    case 'says':
      return end(`${prompt}, ${rest.join(' ')}`);
    case 'hang':
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('cancelled'))),
      );
      break;
    case 'die':
      process.kill(process.pid, 'SIGKILL');
      await sleep(1000);
      break;
    case 'slow':
      await sleep(Number(rest[0] ?? 200), undefined, { signal });
      break;
    case 'long':
      if ((params.messages?.length ?? 0) > 2)
        throw new Failure({ code: 'invalid_parameters', message: 'too many tokens' });
      break;
    case 'fail':
      throw new Failure({ code: 'engine_failed', message: 'the device said no' });
    case 'oom':
      throw new Failure({ code: 'out_of_memory', message: 'no memory' });
  }
  if (name === 'history')
    return end(
      `${prompt}: ${(params.messages ?? [])
        .slice(1)
        .map(({ role, content }) => `${role} ${content}`)
        .join(' / ')}`,
    );
  emit('light');
  return end(`${prompt}, soft light by ${strategy}`);
}
