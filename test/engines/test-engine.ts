/**
 * An engine that misbehaves on command, over the real protocol and as a real child process.
 * At load: `options.onLoad` is `crash`, `hang`, `missing`, `slow`, or `crash-until:<file>` (crashes while the
 * file is absent). In a job: words of the prompt say what to do; see `behave`. With `options.card` it takes
 * memory of a simulated card (`simulated-gpu.ts`), and runs out of it as on a real one.
 */
import { createHash } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { takeMemory } from './simulated-gpu.js';
import type {
  EngineErrorBody,
  EngineEvent,
  EngineKind,
  FromEngine,
  LoadParams,
  ToEngine,
} from '../../src/inference/engine-protocol.js';
import type {
  GeneratedFile,
  QwenGenerateParams,
  QwenGenerateResult,
  SdxlGenerateParams,
  SdxlGenerateResult,
  WanGenerateParams,
  WanGenerateResult,
} from '../../src/inference/generation.js';

const kind = (process.argv[2] ?? 'sdxl') as EngineKind;
const send = (message: FromEngine) => process.send?.(message);
const cancelled = new Set<string>();
const ballast: Buffer[] = [];
let computing: Promise<unknown> = Promise.resolve();
let broken = false;
let settings: NonNullable<LoadParams['options']> = {};

if (process.env['TEST_ENGINE_SILENT'] !== '1') {
  new Worker(
    `const { writeSync } = require('node:fs'); setInterval(() => { try { writeSync(4, JSON.stringify({ at: Date.now(), rssBytes: process.memoryUsage.rss() }) + '\\n') } catch {} }, 50);`,
    { eval: true },
  );
  send({ type: 'hello', engine: kind, pid: process.pid });
}
process.on('disconnect', () => process.exit(0));
process.on('message', (message: ToEngine) => {
  if (message.type === 'cancel') {
    cancelled.add(message.id);
    return;
  }
  handle(message).then(
    (result) => send({ type: 'result', id: message.id, result }),
    (error: unknown) =>
      send({
        type: 'error',
        id: message.id,
        error: error instanceof Failure ? error.body : { code: 'engine_failed', message: String(error) },
      }),
  );
});

class Failure extends Error {
  constructor(readonly body: EngineErrorBody) {
    super(body.message);
  }
}

async function handle(request: Extract<ToEngine, { type: 'request' }>): Promise<unknown> {
  switch (request.method) {
    case 'load':
      return load(request.params);
    case 'warmUp':
      if (broken)
        throw new Failure({ code: 'engine_failed', message: 'an illegal memory access was encountered' });
      return { seconds: 0 };
    case 'memory':
      return { rssBytes: process.memoryUsage().rss, heapBytes: process.memoryUsage().heapUsed };
    case 'sdxl.describePrompt':
      return {
        tokenCount: 3,
        weightsUsed: request.params.weights,
        weightsDropped: [],
        combinedPrompt: null,
        cut: '',
        tensorShapes: {},
        tokens: [],
      };
    case 'sdxl.generate':
      return generate(request.id, request.params);
    case 'wan.generate':
      return generateClip(request.id, request.params);
    case 'qwen.generate':
      return write(request.id, request.params);
    default:
      throw new Failure({
        code: 'invalid_parameters',
        message: `no method ${(request as { method: string }).method}`,
      });
  }
}

/** Holds its model, and what it computes with while it computes, of the simulated card. */
function hold(...what: Array<'residentBytes' | 'workingBytes'>): void {
  if (settings['card'] === undefined) return;
  const bytes = what.reduce((sum, name) => sum + Number(settings[name] ?? 0), 0);
  if (!takeMemory(String(settings['card']), process.pid, bytes))
    throw new Failure({ code: 'out_of_memory', message: `no ${bytes} bytes left on the card` });
}

async function load(params: LoadParams): Promise<unknown> {
  settings = params.options ?? {};
  hold('residentBytes');
  const onLoad = String(params.options?.['onLoad'] ?? '');
  if (onLoad === 'crash') process.kill(process.pid, 'SIGSEGV');
  if (onLoad.startsWith('crash-until:') && !existsSync(onLoad.slice('crash-until:'.length))) {
    console.error('cannot allocate device memory');
    process.exit(7);
  }
  if (onLoad === 'hang') await new Promise(() => {});
  if (onLoad === 'slow') await sleep(300);
  if (onLoad === 'missing')
    throw new Failure({ code: 'model_missing', message: `no model in ${params.modelDir}` });
  return {
    device: settings['card'] === undefined ? 'cpu' : 'cuda',
    deviceNotes: [],
    loadSeconds: 0.01,
    model: { name: 'test engine', features: [], defaultWidth: 64, defaultHeight: 64 },
  };
}

/** What the three kinds of request have in common: steps of computing that may go wrong. */
interface Work {
  prompt: string;
  steps: number;
}

async function generate(id: string, params: SdxlGenerateParams): Promise<SdxlGenerateResult> {
  await compute(id, params);
  return {
    files: await writeFiles(params),
    timings: { denoise: 0.01 },
    weightsUsed: params.weights,
    weightsDropped: [],
    tokenCount: 10,
    truncated: false,
  };
}

async function generateClip(id: string, params: WanGenerateParams): Promise<WanGenerateResult> {
  await compute(id, params);
  const files = await writeFiles({ ...params, numImages: 1 });
  return {
    files,
    timings: { denoise: 0.01 },
    frames: params.frames,
    tokenCount: 10,
    truncated: false,
    referenceMode: 'none',
  };
}

async function write(
  id: string,
  { prompt = '', messages = [] }: QwenGenerateParams,
): Promise<QwenGenerateResult> {
  const asked = prompt === '' ? (messages.at(-1)?.content ?? '') : prompt;
  await compute(id, { prompt: asked, steps: 2 });
  // A template asks for more than it names; the answer is about what it names.
  const original = /prompt: (.+)/i.exec(asked)?.[1] ?? asked;
  return {
    text: `${original}, seen in soft light`,
    model: 'test engine',
    promptTokens: 3,
    completionTokens: 8,
    stopReason: 'eos',
    seconds: 0.01,
  };
}

async function compute(id: string, params: Work): Promise<void> {
  const emit = (event: EngineEvent) => send({ type: 'event', id, event });
  const before = computing;
  let done!: () => void;
  computing = new Promise<void>((resolve) => {
    done = resolve;
  });
  emit({ kind: 'progress', stage: 'waiting', step: 0, steps: 0 });
  await before;
  try {
    hold('residentBytes', 'workingBytes');
    if (/loads first/.test(params.prompt)) {
      emit({ kind: 'progress', stage: 'load', step: 0, steps: 1 });
      await sleep(1200);
    }
    emit({ kind: 'progress', stage: 'text', step: 1, steps: 1 });
    for (let step = 1; step <= params.steps; step += 1) {
      await behave(params, step);
      if (cancelled.has(id) && !/ignores cancel/.test(params.prompt))
        throw new Failure({ code: 'cancelled', message: 'cancelled' });
      emit({ kind: 'progress', stage: 'denoise', step, steps: params.steps });
    }
    emit({ kind: 'progress', stage: 'decode', step: 1, steps: 1 });
  } finally {
    hold('residentBytes');
    done();
  }
  emit({ kind: 'computeDone' });
  emit({ kind: 'progress', stage: 'encode', step: 1, steps: 1 });
  if (/crashes in encode/.test(params.prompt)) process.kill(process.pid, 'SIGKILL');
  if (/encodes slowly/.test(params.prompt)) await sleep(400);
  if (/hangs in encode/.test(params.prompt)) await new Promise(() => {});
}

/**
 * `crashes` kills itself, `crashes once <file>` only while the file is absent, `exits <code>`, `loads first`
 * (cannot be interrupted), `hangs`, `stops` (SIGSTOP), `blocks <ms>`, `is slow`, `leaks`, `runs out of
 * memory`, `breaks for good`, `is invalid`, `loses the device`.
 */
async function behave({ prompt }: Work, step: number): Promise<void> {
  if (/is slow/.test(prompt)) await sleep(40);
  if (step !== 2) return;
  const once = /crashes once (\S+)/.exec(prompt);
  if (once?.[1] !== undefined) {
    if (existsSync(once[1])) return;
    await writeFile(once[1], '');
    process.kill(process.pid, 'SIGKILL');
    await sleep(1000);
  }
  if (/crashes always/.test(prompt)) {
    process.kill(process.pid, 'SIGKILL');
    await sleep(1000);
  }
  const exits = /exits (\d+)/.exec(prompt);
  if (exits) {
    console.error('giving up');
    process.exit(Number(exits[1]));
  }
  if (/hangs$/.test(prompt)) await new Promise(() => {});
  if (/stops/.test(prompt)) process.kill(process.pid, 'SIGSTOP');
  const blocks = /blocks (\d+)/.exec(prompt);
  if (blocks) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(blocks[1]));
  if (/leaks/.test(prompt)) ballast.push(Buffer.alloc(64 * 2 ** 20, 1));
  if (/runs out of memory/.test(prompt))
    throw new Failure({ code: 'out_of_memory', message: 'the device has no memory left' });
  if (/breaks for good/.test(prompt)) broken = true;
  if (broken)
    throw new Failure({ code: 'engine_failed', message: 'an illegal memory access was encountered' });
  if (/is invalid/.test(prompt))
    throw new Failure({
      code: 'invalid_parameters',
      field: 'config.width',
      message: 'must be a multiple of 8',
    });
  if (/loses the device/.test(prompt))
    throw new Failure({ code: 'device_lost', message: 'the device is gone' });
}

async function writeFiles(
  params: Pick<
    SdxlGenerateParams,
    'outputDir' | 'prompt' | 'numImages' | 'seed' | 'format' | 'width' | 'height'
  >,
): Promise<GeneratedFile[]> {
  const files: GeneratedFile[] = [];
  for (let index = 0; index < params.numImages; index += 1) {
    const seed = params.seed + index;
    const content = `picture of ${params.prompt} with seed ${seed}\n`;
    const file = path.join(params.outputDir, `${index}.${params.format}`);
    await new Promise<void>((resolve, reject) =>
      createWriteStream(file).on('error', reject).end(content, resolve),
    );
    files.push({
      path: file,
      contentType: `image/${params.format}`,
      bytes: Buffer.byteLength(content),
      sha256: createHash('sha256').update(content).digest('hex'),
      width: params.width,
      height: params.height,
      seed,
    });
  }
  return files;
}
