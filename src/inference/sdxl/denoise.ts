import { concat, guide } from '../diffusion/floats.js';
import type { Scheduler } from '../diffusion/schedulers/index.js';
import { checkpoint } from '../engine.js';
import { runInRows, type RowLimit } from '../onnx/rows.js';
import type { FloatTensor } from '../onnx/session.js';
import type { Conditioning } from './conditioning.js';
import type { SdxlModel } from './model.js';

export interface DenoiseOptions {
  /** Images drawn together; all share prompt, size and schedule. */
  images: number;
  /** How many rows one call of the UNet may have; learns when memory runs out. */
  rowLimit: RowLimit;
  positive: Conditioning;
  /** Unused when the guidance scale is 1 or less: there is no second pass then. */
  negative: Conditioning;
  guidanceScale: number;
  /** Pixels; for the micro-conditioning [original h, w, crop top, left, target h, w]. */
  width: number;
  height: number;
  scheduler: Scheduler;
  /** Unit noise for ancestral samplers, drawn per step. */
  stepNoise?: () => Float32Array;
  adapter?: AdapterInput;
  signal: AbortSignal;
  onStep(index: number, latents: Float32Array): void | Promise<void>;
}

/** Image tokens for decoupled cross-attention, and how much each layer listens to them. */
export interface AdapterInput {
  /** [tokens, width]. */
  tokens: FloatTensor;
  /** What an absent picture looks like after projection, for the unconditional pass. */
  emptyTokens: FloatTensor;
  /** One factor per cross-attention layer, in the graph's order. */
  scales: Float32Array;
}

/**
 * Classifier-free guidance over the schedule: latents [N, C, h, w] in, latents out, all arithmetic outside
 * the graph in float32. Batch order in the graph is N negative, N positive (diffusers,
 * pipeline_stable_diffusion_xl.py).
 */
export async function denoise(
  model: SdxlModel,
  start: Float32Array,
  options: DenoiseOptions,
): Promise<Float32Array> {
  const { scheduler, positive, negative, guidanceScale, width, height, images, signal } = options;
  const guided = guidanceScale > 1;
  const rows = (guided ? [negative, positive] : [positive]).flatMap((side) =>
    new Array<Conditioning>(images).fill(side),
  );
  const dims = [images, model.latentChannels, height / model.vaeScale, width / model.vaeScale];
  const conditioning = {
    encoder_hidden_states: {
      data: concat(rows.map(({ embeds }) => embeds)),
      dims: [rows.length, positive.tokens, positive.embeds.length / positive.tokens],
    },
    text_embeds: {
      data: concat(rows.map(({ pooled }) => pooled)),
      dims: [rows.length, positive.pooled.length],
    },
    time_ids: { data: rows.flatMap(() => [height, width, 0, 0, height, width]), dims: [rows.length, 6] },
    ...adapterFeeds(model, options.adapter, { guided, images }),
  };

  let latents = start;
  for (const [index, timestep] of scheduler.timesteps.entries()) {
    await checkpoint(signal);
    const scaled = scheduler.scaleModelInput(latents, index);
    const feeds = {
      ...conditioning,
      sample: { data: scaled, dims },
      timestep: { data: [timestep], dims: [] },
    };
    const output = await runInRows(model.unet, feeds, 'out_sample', {
      rows: rows.length,
      limit: options.rowLimit,
      signal,
    });
    const noise = guided ? guide(output, guidanceScale) : concat(output);
    latents = scheduler.step(index, noise, latents, scheduler.needsNoise ? options.stepNoise?.() : undefined);
    await options.onStep(index, latents);
  }
  return latents;
}

function adapterFeeds(
  model: SdxlModel,
  adapter: AdapterInput | undefined,
  { guided, images }: { guided: boolean; images: number },
) {
  if (!model.unet.hasInput('ip_tokens')) return {};
  const layers = Number(model.unet.inputShape('ip_scale')[1]);
  const width = Number(model.unet.inputShape('ip_tokens')[2]);
  // an export whose tokens have places takes a fixed number of them; elsewhere one zero token does
  const count = Number(model.unet.inputShape('ip_tokens')[1]) || 1;
  const none: FloatTensor = { data: new Float32Array(count * width), dims: [1, count, width] };
  const { tokens, emptyTokens, scales } = adapter ?? {
    tokens: none,
    emptyTokens: none,
    scales: new Float32Array(layers),
  };
  const rows = (guided ? [emptyTokens, tokens] : [tokens]).flatMap((side) =>
    new Array<FloatTensor>(images).fill(side),
  );
  return {
    ip_tokens: {
      data: concat(rows.map(({ data }) => data)),
      dims: [rows.length, tokens.data.length / width, width],
    },
    ip_scale: { data: concat(rows.map(() => scales)), dims: [rows.length, layers] },
  };
}
