import { type AutoencoderConfig, buildDecoder, buildEncoder } from './autoencoder.js';
import { buildClipText, type ClipTextConfig } from './clip-text.js';
import type { Graph } from './graph.js';
import { buildUnet, type UnetConfig } from './unet.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Device } from '../engine-protocol.js';

/** How a graph comes out of one part of a diffusers folder. */
export interface BuildGraph {
  part: string;
  /** Tensors that begin so must all be used, or the checkpoint is of another kind than its configuration says. */
  reads: string[];
  build(tensors: TensorTable, config: never, device: Device, title: string): Graph;
}

const text = (part: string): BuildGraph => ({
  part,
  reads: [''],
  build: (tensors, config: ClipTextConfig, device) => buildClipText(tensors, config, device, part),
});

export const sdxlGraphs: Record<string, BuildGraph> = {
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
