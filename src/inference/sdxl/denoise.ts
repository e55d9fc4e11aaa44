import { describeFailure, throwIfCancelled, yieldToMessages } from '../engine.js';
import type { FloatTensor, Values } from '../onnx/session.js';
import type { Scheduler } from '../diffusion/schedulers/index.js';
import { concat, type Conditioning } from './conditioning.js';
import type { SdxlModel } from './model.js';

export interface DenoiseOptions {
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
 * Classifier-free guidance over the schedule, one image: latents [1, C, h, w] in, latents out, all arithmetic outside the
 * graph in float32. Batch order in the graph is negative, positive (diffusers, pipeline_stable_diffusion_xl.py).
 */
export async function denoise(model: SdxlModel, start: Float32Array, options: DenoiseOptions): Promise<Float32Array> {
  const { scheduler, positive, negative, guidanceScale, width, height, signal } = options;
  const guided = guidanceScale > 1;
  const batch = guided ? 2 : 1;
  const dims = [batch, model.latentChannels, height / model.vaeScale, width / model.vaeScale];
  const rows = guided ? [negative, positive] : [positive];
  const conditioning = {
    encoder_hidden_states: { data: concat(rows.map(({ embeds }) => embeds)), dims: [batch, positive.tokens, positive.embeds.length / positive.tokens] },
    text_embeds: { data: concat(rows.map(({ pooled }) => pooled)), dims: [batch, positive.pooled.length] },
    time_ids: { data: rows.flatMap(() => [height, width, 0, 0, height, width]), dims: [batch, 6] },
    ...adapterFeeds(model, options.adapter, guided),
  };

  let together = true;
  /** Both passes in one call; when that does not fit, one after the other from then on. */
  async function predict(scaled: Float32Array, timestep: number): Promise<Float32Array> {
    const feeds = { ...conditioning, sample: { data: guided ? concat([scaled, scaled]) : scaled, dims }, timestep: { data: [timestep], dims: [] } };
    if (together) {
      try {
        return (await model.unet.run(feeds, ['out_sample'])).out_sample.data;
      } catch (error) {
        if (!guided || describeFailure(error).code !== 'out_of_memory') throw error;
        together = false;
      }
    }
    const halves: Float32Array[] = [];
    for (const row of [0, 1]) {
      const { out_sample: half } = await model.unet.run(Object.fromEntries(Object.entries(feeds).map(([name, values]) => [name, rowOf(values, row)])), ['out_sample']);
      halves.push(half.data);
    }
    return concat(halves);
  }

  let latents = start;
  for (const [index, timestep] of scheduler.timesteps.entries()) {
    await yieldToMessages();
    throwIfCancelled(signal);
    const scaled = scheduler.scaleModelInput(latents, index);
    const output = await predict(scaled, timestep);
    const noise = guided ? guide(output, guidanceScale) : output;
    latents = scheduler.step(index, noise, latents, scheduler.needsNoise ? options.stepNoise?.() : undefined);
    await options.onStep(index, latents);
  }
  return latents;
}

/** One row of a [2, …] tensor; scalars pass. */
function rowOf(values: Values, row: number): Values {
  if (values.dims.length === 0) return values;
  const size = values.data.length / 2;
  return { data: values.data.slice(row * size, (row + 1) * size), dims: [1, ...values.dims.slice(1)] };
}

/** neg + g·(pos - neg) over a [2, …] output. */
function guide(output: Float32Array, guidanceScale: number): Float32Array {
  const half = output.length / 2;
  return output.subarray(0, half).map((negative, i) => negative + guidanceScale * ((output[half + i] as number) - negative));
}

function adapterFeeds(model: SdxlModel, adapter: AdapterInput | undefined, guided: boolean) {
  if (!model.unet.hasInput('ip_tokens')) return {};
  const layers = Number(model.unet.inputShape('ip_scale')[1]);
  const width = Number(model.unet.inputShape('ip_tokens')[2]);
  const batch = guided ? 2 : 1;
  if (adapter === undefined) {
    return { ip_tokens: { data: new Float32Array(batch * width), dims: [batch, 1, width] }, ip_scale: { data: new Float32Array(batch * layers), dims: [batch, layers] } };
  }
  const parts = guided ? [adapter.emptyTokens, adapter.tokens] : [adapter.tokens];
  return {
    ip_tokens: { data: concat(parts.map(({ data }) => data)), dims: [batch, adapter.tokens.data.length / width, width] },
    ip_scale: { data: concat(parts.map(() => adapter.scales)), dims: [batch, layers] },
  };
}
