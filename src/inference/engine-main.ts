import { readdir } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { Worker } from 'node:worker_threads';
import { createSemaphore } from '../lib/semaphore.js';
import { cancelled, describeFailure, EngineFailure, type Engine, type RequestContext } from './engine.js';
import type { EngineKind, EngineMethod, FromEngine, MemoryReport, ToEngine } from './engine-protocol.js';

/**
 * Entry of an engine process: `node engine-main.js sdxl|wan|qwen`, forked with IPC and a heartbeat pipe as fd
 * 4. It outlives nothing: when the parent's channel closes it ends at once, whatever it was computing.
 */
const loaders: Partial<Record<EngineKind, () => Promise<Engine>>> = {
  sdxl: async () => (await import('./sdxl/engine.js')).createSdxlEngine(),
  qwen: async () => (await import('./llama/engine.js')).createQwenEngine(),
  wan: async () => (await import('./wan/engine.js')).createWanEngine(),
};

/**
 * Heartbeats come from a thread of their own: the main thread is silent for the whole of a native call.
 * Nobody left to hear them: the process ends at once, whatever it computes, since the next service will want
 * the device.
 */
const heartbeatSource = `
  const { writeSync } = require('node:fs');
  const beat = () => {
    try {
      writeSync(4, JSON.stringify({ rssBytes: process.memoryUsage.rss() }) + '\\n');
    } catch (error) {
      if (error.code === 'EPIPE' || error.code === 'ECONNRESET') process.kill(process.pid, 'SIGKILL');
    }
  };
  beat();
  setInterval(beat, 1000);
`;

/**
 * Niceness while computing: enough to give way at once, little enough to keep a share beside other busy
 * programs.
 */
const computingPriority = 10;

function send(message: FromEngine): void {
  if (process.connected) process.send?.(message);
}

async function main(kind: EngineKind): Promise<void> {
  const load = loaders[kind];
  if (load === undefined || process.send === undefined) {
    throw new Error(`usage: fork this file with one of ${Object.keys(loaders).join(', ')} as its argument`);
  }
  // Not `exit`: native code may take long to clean up, or never end.
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  await lowerRunningThreads();
  new Worker(heartbeatSource, { eval: true }).unref();
  // On Linux this lowers the main thread and all it starts from here on, the kernels' threads included, but
  // not the heartbeat above: computing takes what the service and the heartbeat leave, so that `/health`
  // answers as when idle.
  setPriority(computingPriority);
  const engine = await load();
  serve(engine);
  send({ type: 'hello', engine: kind, pid: process.pid });
}

/**
 * The thread pool, where llama.cpp computes, runs already; on Linux a priority is a thread's own. The main
 * thread's turn comes after the heartbeat's start.
 */
async function lowerRunningThreads(): Promise<void> {
  for (const thread of await readdir('/proc/self/task').catch(() => [])) {
    if (Number(thread) !== process.pid) setPriority(Number(thread), computingPriority);
  }
}

function serve(engine: Engine): void {
  const running = new Map<string, AbortController>();
  /** One request computes at a time. */
  const device = createSemaphore(1);
  let loaded = false;

  process.on('message', (message: ToEngine) => {
    if (message.type === 'cancel') running.get(message.id)?.abort(cancelled());
    else void answer(message);
  });

  async function answer(request: Extract<ToEngine, { type: 'request' }>): Promise<void> {
    const controller = new AbortController();
    running.set(request.id, controller);
    const context: RequestContext = {
      id: request.id,
      signal: controller.signal,
      emit: (event) => {
        send({ type: 'event', id: request.id, event });
      },
      async compute(work) {
        if (device.free() === 0) context.emit({ kind: 'progress', stage: 'waiting', step: 0, steps: 0 });
        const release = await device.acquire(controller.signal);
        try {
          return await work();
        } finally {
          release();
          context.emit({ kind: 'computeDone' });
        }
      },
    };
    try {
      send({ type: 'result', id: request.id, result: await dispatch(request, context) });
    } catch (error) {
      const body = describeFailure(error);
      if (body.code === 'engine_failed' && error instanceof Error)
        send({ type: 'log', level: 'error', message: error.stack ?? error.message });
      send({ type: 'error', id: request.id, error: body });
    } finally {
      running.delete(request.id);
    }
  }

  async function dispatch(
    request: Extract<ToEngine, { type: 'request' }>,
    context: RequestContext,
  ): Promise<unknown> {
    switch (request.method) {
      case 'load': {
        const result = await context.compute(() =>
          engine.load(request.params, (level, message, fields) => {
            send({ type: 'log', level, message, ...(fields === undefined ? {} : { fields }) });
          }),
        );
        loaded = true;
        return result;
      }
      case 'warmUp': {
        const startedAt = performance.now();
        await engine.warmUp(context);
        return { seconds: (performance.now() - startedAt) / 1000 };
      }
      case 'memory': {
        const { rss, heapUsed } = process.memoryUsage();
        return { rssBytes: rss, heapBytes: heapUsed, ...(await engine.memory?.()) } satisfies MemoryReport;
      }
      default: {
        const method = engine.methods[request.method] as
          ((params: unknown, context: RequestContext) => Promise<unknown>) | undefined;
        if (method === undefined)
          throw new EngineFailure(
            'invalid_parameters',
            `this engine has no method ${request.method satisfies EngineMethod}`,
          );
        if (!loaded) throw new EngineFailure('not_loaded', 'load the model first');
        return method(request.params, context);
      }
    }
  }
}

await main(process.argv[2] as EngineKind);
