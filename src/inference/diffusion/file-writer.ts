import { type MessagePort, parentPort, type Transferable, Worker, workerData } from 'node:worker_threads';
import type { VideoTools } from '../../lib/video-tools.js';
import { cancelled, describeFailure, EngineFailure } from '../engine.js';
import type { EngineErrorBody } from '../engine-protocol.js';
import type { GeneratedFile } from '../generation.js';
import { collectGarbage } from './floats.js';
import { type Picture, type PictureRequest, writeImage, writePreview } from './pictures.js';
import { openVideo, type VideoOptions, type VideoWriter } from './video-file.js';

/**
 * Files are encoded and written in a thread of their own. A graph's call blocks the engine's loop for all of a
 * step, and what the last job drew must not wait for the steps of the next one. Pixels change hands, they are
 * not copied: a picture that was given cannot be read any more.
 */
export const fileWriter = {
  image(request: PictureRequest, name: string, picture: Picture, seed: number): Promise<GeneratedFile> {
    return ask('image', [request, name, picture, seed], owned(picture));
  },
  preview(file: string, pixels: Picture, width: number, height: number): Promise<void> {
    return ask('preview', [file, pixels, width, height], owned(pixels));
  },
  openVideo: openVideoThere,
};

/** Pixels of a clip that may wait for the encoder: all of 81 frames at 832×480. */
const waitingBytes = 128 * 2 ** 20;

export type ClipWriter = Awaited<ReturnType<typeof openVideoThere>>;

async function openVideoThere(
  tools: VideoTools,
  file: string,
  { signal, ...options }: VideoOptions,
): Promise<{
  /** Waits while too much waits for the encoder. */
  write(picture: Picture): Promise<void>;
  /**
   * The clip, and the still of its first frame that is made meanwhile. `onEncoded` hears how many frames are
   * encoded.
   */
  finish(still: StillRequest, onEncoded: (frames: number) => void): Promise<GeneratedFile[]>;
  abandon(): Promise<void>;
}> {
  const id = (videos += 1);
  const stop = () => void ask('stopVideo', [id]).catch(() => undefined);
  signal.addEventListener('abort', stop, { once: true });
  await ask('openVideo', [id, tools, file, options]);
  let waiting = 0;
  let failure: Error | undefined;
  const forget = () => signal.removeEventListener('abort', stop);
  return {
    async write(picture) {
      const bytes = picture.data.length;
      waiting += bytes;
      const taken = ask('writeFrame', [id, picture], owned(picture)).then(
        () => {
          waiting -= bytes;
        },
        (error: Error) => {
          failure = error;
        },
      );
      if (waiting > waitingBytes) await taken;
      if (failure !== undefined) throw failure;
    },
    finish: async (still, onEncoded) => ask('finishVideo', [id, still], [], onEncoded).finally(forget),
    abandon: () => ask('abandonVideo', [id]).finally(forget),
  };
}

interface StillRequest {
  request: PictureRequest;
  name: string;
  seed: number;
}

/** What the thread does; every call may also report numbers on its way. */
function createMethods() {
  const open = new Map<number, { video: VideoWriter; stop: AbortController; first?: Picture }>();
  const find = (id: number) => {
    const found = open.get(id);
    if (found === undefined) throw new EngineFailure('engine_failed', 'The video is not open.');
    return found;
  };
  return {
    image: writeImage,
    preview: writePreview,
    async openVideo(id: number, tools: VideoTools, file: string, options: Omit<VideoOptions, 'signal'>) {
      const stop = new AbortController();
      open.set(id, { video: openVideo(tools, file, { ...options, signal: stop.signal }), stop });
    },
    async writeFrame(id: number, picture: Picture) {
      const clip = find(id);
      clip.first ??= picture;
      await clip.video.write(picture);
    },
    async finishVideo(
      id: number,
      { request, name, seed }: StillRequest,
      report: (frames: number) => void = () => {},
    ): Promise<GeneratedFile[]> {
      const { video, first } = find(id);
      const files = await Promise.allSettled([
        video.finish(report),
        ...(first === undefined ? [] : [writeImage(request, name, first, seed)]),
      ]);
      open.delete(id);
      return files.map((file) => {
        if (file.status === 'rejected') throw file.reason;
        return file.value;
      });
    },
    async stopVideo(id: number) {
      open.get(id)?.stop.abort(cancelled());
    },
    async abandonVideo(id: number) {
      await open.get(id)?.video.abandon();
      open.delete(id);
    },
  };
}

type Methods = ReturnType<typeof createMethods>;
/** As they are asked; the thread's own `report` comes after them. */
type Arguments<M extends keyof Methods> = M extends 'finishVideo'
  ? [number, StillRequest]
  : Parameters<Methods[M]>;

interface Question {
  id: number;
  method: keyof Methods;
  given: unknown[];
}
type Answer = { id: number } & ({ result: unknown } | { error: EngineErrorBody } | { step: number });

interface Asked {
  resolve(result: unknown): void;
  reject(error: Error): void;
  onStep(step: number): void;
}

/** Tells the thread that it is one. */
const role = 'file-writer';
let questions = 0;
let videos = 0;
let thread: { worker: Worker; asked: Map<number, Asked> } | undefined;

/** Asks the thread, which is started by the first question and keeps a process alive only while it owes an answer. */
function ask<M extends keyof Methods>(
  method: M,
  given: Arguments<M>,
  transfer: Transferable[] = [],
  onStep: (step: number) => void = () => {},
): Promise<Awaited<ReturnType<Methods[M]>>> {
  const { worker, asked } = (thread ??= startThread());
  const id = (questions += 1);
  return new Promise((resolve, reject) => {
    asked.set(id, { resolve, reject, onStep });
    worker.ref();
    worker.postMessage({ id, method, given } satisfies Question, transfer);
  });
}

function startThread() {
  const asked = new Map<number, Asked>();
  const worker = new Worker(new URL(import.meta.url), { workerData: role });
  const answered = (id: number): Asked | undefined => {
    const found = asked.get(id);
    asked.delete(id);
    if (asked.size === 0) worker.unref();
    return found;
  };
  worker.on('message', (answer: Answer) => {
    if ('step' in answer) asked.get(answer.id)?.onStep(answer.step);
    else if ('result' in answer) answered(answer.id)?.resolve(answer.result);
    else {
      const { code, message, field } = answer.error;
      answered(answer.id)?.reject(new EngineFailure(code, message, field));
    }
  });
  worker.once('error', (error: Error) => {
    thread = undefined;
    for (const id of [...asked.keys()]) answered(id)?.reject(error);
  });
  return { worker, asked };
}

/** The buffer of a picture that has one for itself. */
const owned = ({ data }: Picture): Transferable[] =>
  data.byteLength === data.buffer.byteLength && data.buffer instanceof ArrayBuffer ? [data.buffer] : [];

function serve(port: MessagePort): void {
  const methods = createMethods() as unknown as Record<string, (...given: unknown[]) => Promise<unknown>>;
  const answer = (body: Answer) => port.postMessage(body);
  port.on('message', async ({ id, method, given }: Question) => {
    const report = (step: number) => answer({ id, step });
    try {
      answer({ id, result: await methods[method]?.(...given, report) });
    } catch (error) {
      answer({ id, error: describeFailure(error) });
    }
    // of pixels the collector sees only their small handles
    if (method !== 'writeFrame') setImmediate(collectGarbage);
  });
}

if (workerData === role && parentPort !== null) serve(parentPort);
