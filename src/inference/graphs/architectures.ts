import { type AutoencoderConfig, buildDecoder, buildEncoder } from './autoencoder.js';
import { buildCausalDecoder, buildCausalEncoder, type CausalVaeConfig } from './causal-vae.js';
import { buildClipText, type ClipTextConfig } from './clip-text.js';
import type { Graph } from './graph.js';
import { buildUmt5, type Umt5Config } from './umt5.js';
import { buildUnet, type UnetConfig } from './unet.js';
import { buildWanTransformer, type WanTransformerConfig } from './wan-transformer.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Device } from '../engine-protocol.js';

/** How a graph comes out of one part of a diffusers folder. */
export interface BuildGraph {
  part: string;
  /**
   * Tensors that begin so must all be used, or the checkpoint is of another kind than its configuration says.
   */
  reads: string[];
  build(tensors: TensorTable, config: never, device: Device, title: string): Graph;
}

const text = (part: string): BuildGraph => ({
  part,
  reads: [''],
  build: (tensors, config: ClipTextConfig, device) => buildClipText(tensors, config, device, part),
});

const sdxl: Record<string, BuildGraph> = {
  'text_encoder/model': text('text_encoder'),
  'text_encoder_2/model': text('text_encoder_2'),
  'unet/model': {
    part: 'unet',
    reads: [''],
    build: (tensors, config: UnetConfig, device) => buildUnet(tensors, config, device),
  },
  'vae_decoder/model': {
    part: 'vae',
    reads: ['decoder.', 'post_quant_conv.'],
    build: (tensors, config: AutoencoderConfig, device) => buildDecoder(tensors, config, device),
  },
  'vae_encoder/model': {
    part: 'vae',
    reads: ['encoder.', 'quant_conv.'],
    build: (tensors, config: AutoencoderConfig, device) => buildEncoder(tensors, config, device),
  },
};

const causal = (half: 'decoder' | 'encoder', part: 'init' | 'step'): BuildGraph => ({
  part: 'vae',
  // the first chunk passes over the temporal convolutions
  reads:
    part === 'init'
      ? []
      : half === 'decoder'
        ? ['decoder.', 'post_quant_conv.']
        : ['encoder.', 'quant_conv.'],
  build: (tensors, config: CausalVaeConfig, device) =>
    (half === 'decoder' ? buildCausalDecoder : buildCausalEncoder)(tensors, config, device, part),
});

const wan: Record<string, BuildGraph> = {
  'text_encoder/model': {
    part: 'text_encoder',
    reads: [''],
    build: (tensors, config: Umt5Config, device) => buildUmt5(tensors, config, device),
  },
  'transformer/model': {
    part: 'transformer',
    reads: [''],
    build: (tensors, config: WanTransformerConfig, device) => buildWanTransformer(tensors, config, device),
  },
  'vae_decoder/init': causal('decoder', 'init'),
  'vae_decoder/step': causal('decoder', 'step'),
  'vae_encoder/init': causal('encoder', 'init'),
  'vae_encoder/step': causal('encoder', 'step'),
};

/** Graphs of each engine by their names in docs/export.md, without `.onnx`. */
export const architectures = { sdxl, wan };
