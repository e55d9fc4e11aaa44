import { type AutoencoderConfig, buildDecoder, buildEncoder } from './autoencoder.js';
import {
  buildCausalDecoder,
  buildCausalEncoder,
  type CausalPart,
  type CausalVaeConfig,
} from './causal-vae.js';
import { buildClipText, type ClipTextConfig } from './clip-text.js';
import type { Graph } from './graph.js';
import { buildImageEncoder, type ClipVisionConfig } from './image-encoder.js';
import { buildUmt5, type Umt5Config } from './umt5.js';
import { buildUnet, type UnetConfig } from './unet.js';
import { buildWanText, buildWanTransformer, type WanTransformerConfig } from './wan-transformer.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import { cudaLowering } from './cuda.js';
import type { Form } from './lowering.js';
import { plain, webgpu } from './plain.js';
import type { Device } from '../engine-protocol.js';

/** How a graph comes out of one part of a diffusers folder. */
export interface BuildGraph {
  part: string;
  /**
   * Tensors that begin so must all be used, or the checkpoint is of another kind than its configuration says.
   */
  reads: string[];
  /** Of these, what begins so is another graph's. */
  leaves?: string;
  /** How it is written for each device. */
  forms: Partial<Record<Device, Form>>;
  build(tensors: TensorTable, config: never, form: Form): Graph;
}

const cpu: Form = { lowering: plain, type: 'float' };
const cuda = cudaLowering({ skipLayerNorm: true, halfAttention: true, turnedUpTo: 640 });
/** Any device opens these, and nothing is packed for them: to try a device with. */
export const trialForms: Record<Device, Form> = {
  cpu,
  webgpu: { lowering: webgpu, type: 'float' },
  cuda: cpu,
};
/** Where fp16 carries everything: half the memory, and what the card's matrix units compute in. */
const half = { ...trialForms, cuda: { lowering: cuda, type: 'float16' } } as const;
/** Wan's residual stream and norms are float32, and its matrices wide. */
const wanCard: Form = { lowering: cudaLowering({ skipLayerNorm: false }), type: 'float16' };
/** The stock VAE of SDXL leaves fp16's range. */
const wide = { ...trialForms, cuda: { lowering: cuda, type: 'float' } } as const;

const text = (part: string): BuildGraph => ({
  part,
  reads: [''],
  forms: half,
  build: (tensors, config: ClipTextConfig, form) => buildClipText(tensors, config, form, part),
});

const sdxl: Record<string, BuildGraph> = {
  'text_encoder/model': text('text_encoder'),
  'text_encoder_2/model': text('text_encoder_2'),
  'unet/model': {
    part: 'unet',
    reads: [''],
    forms: half,
    build: (tensors, config: UnetConfig, form) => buildUnet(tensors, config, form),
  },
  'image_encoder/model': {
    part: 'image_encoder',
    // "plus" needs no more of the tower than its last but one layer
    reads: ['image_proj.'],
    forms: half,
    build: (tensors, config: Partial<ClipVisionConfig>, form) => buildImageEncoder(tensors, config, form),
  },
  'vae_decoder/model': {
    part: 'vae',
    reads: ['decoder.', 'post_quant_conv.'],
    forms: wide,
    build: (tensors, config: AutoencoderConfig, form) => buildDecoder(tensors, config, form),
  },
  'vae_encoder/model': {
    part: 'vae',
    reads: ['encoder.', 'quant_conv.'],
    forms: wide,
    build: (tensors, config: AutoencoderConfig, form) => buildEncoder(tensors, config, form),
  },
};

const causal = (side: 'decoder' | 'encoder', part: CausalPart): BuildGraph => ({
  part: 'vae',
  // the first chunk passes over the temporal convolutions
  reads:
    part === 'init'
      ? []
      : side === 'decoder'
        ? ['decoder.', 'post_quant_conv.']
        : ['encoder.', 'quant_conv.'],
  // a card hands no caches over between two runs: all of a clip is one there
  forms: part === 'clip' ? { cuda: wanCard } : trialForms,
  build: (tensors, config: CausalVaeConfig, form) =>
    (side === 'decoder' ? buildCausalDecoder : buildCausalEncoder)(tensors, config, form, part),
});

const wan: Record<string, BuildGraph> = {
  'text_encoder/model': {
    part: 'text_encoder',
    reads: [''],
    forms: { ...trialForms, cuda: wanCard },
    build: (tensors, config: Umt5Config, form) => buildUmt5(tensors, config, form),
  },
  'transformer/text': {
    part: 'transformer',
    reads: [],
    forms: { ...trialForms, cuda: wanCard },
    build: (tensors, config: WanTransformerConfig, form) => buildWanText(tensors, config, form),
  },
  'transformer/model': {
    part: 'transformer',
    reads: [''],
    leaves: 'condition_embedder.text_embedder.',
    forms: { ...trialForms, cuda: wanCard },
    build: (tensors, config: WanTransformerConfig, form) => buildWanTransformer(tensors, config, form),
  },
  'vae_decoder/init': causal('decoder', 'init'),
  'vae_decoder/step': causal('decoder', 'step'),
  'vae_decoder/clip': causal('decoder', 'clip'),
  'vae_encoder/init': causal('encoder', 'init'),
  'vae_encoder/step': causal('encoder', 'step'),
  'vae_encoder/clip': causal('encoder', 'clip'),
};

/** Graphs of each engine by their names in docs/export.md, without `.onnx`. */
export const architectures = { sdxl, wan };
