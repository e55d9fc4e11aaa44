import type { FloatTensor, KeptTensor, OnnxSession, Values } from '../onnx/session.js';

/** The two graphs of one half of the causal VAE: the first chunk of a clip, and every later one. */
export interface CausalGraphs {
  init: OnnxSession;
  step: OnnxSession;
}

/** `nc0`, `nc1`, …: what a chunk hands to the next one, which takes it as `c0`, `c1`, … */
export const isCache = (output: string) => /^nc\d+$/.test(output);

/**
 * Runs a clip through one half of the VAE chunk by chunk. Between chunks only the convolutions' last inputs are kept, so
 * memory does not grow with the clip: two sets of caches take turns, the older one being written over (on the CPU), or
 * each is given back to the device as soon as the next exists.
 */
export function createCausalStream({ init, step }: CausalGraphs, input: string, output: string) {
  let caches: KeptTensor[] | null = null;
  let spare: KeptTensor[] | null = null;

  function give(tensors: KeptTensor[] | null): void {
    for (const tensor of tensors ?? []) if (tensor.location !== 'cpu') tensor.dispose();
  }

  return {
    /** The next chunk's output; `chunk` is one latent frame, or one frame first and four at a time then. */
    async next(chunk: Values): Promise<FloatTensor> {
      const graph = caches === null ? init : step;
      const names = graph.outputNames.filter(isCache);
      const feeds: Record<string, Values | KeptTensor> = { [input]: chunk };
      for (const [i, name] of names.entries()) if (caches !== null) feeds[name.slice(1)] = caches[i] as KeptTensor;
      const { value, kept } = await graph.runKeeping(feeds, output, names, spare ?? undefined);
      give(spare);
      [spare, caches] = [caches, kept];
      return value;
    },
    /** Drops the caches; the next chunk begins a clip. */
    release(): void {
      give(spare);
      give(caches);
      [spare, caches] = [null, null];
    },
  };
}
