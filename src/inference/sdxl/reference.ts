import { readPicture } from '../diffusion/image-files.js';
import { toPlanes } from '../diffusion/picture.js';
import type { ReferenceType } from '../engine-protocol.js';
import type { AdapterInput } from './denoise.js';
import type { SdxlModel } from './model.js';

export interface Reference {
  path: string;
  type: ReferenceType;
  /** 0.1–1.0: how much of the reference is kept. */
  strength: number;
}

/** Which cross-attention layers listen to a reference, by the folder's `adapter.json`; factors of 0 elsewhere. */
export interface AdapterLayers {
  /** Names of the layers in the order of `ip_scale`. */
  layers: string[];
  /** Factor per layer name for each type at strength 1. */
  types: Record<ReferenceType, Record<string, number>>;
}

/**
 * img2img's own strength is how much may change. A stock export has no adapter, so the reference is the picture to start
 * from: reference_strength s keeps more the higher it is. Composition keeps outlines (0.9 - 0.5·s may change); style
 * keeps colours only (0.95 - 0.25·s); character keeps the most (0.85 - 0.55·s).
 */
export function imageToImageStrength({ type, strength }: Reference): number {
  const [base, slope] = { composition: [0.9, 0.5], style: [0.95, 0.25], character: [0.85, 0.55] }[type] as [number, number];
  return base - slope * strength;
}

/** Image tokens of a reference for the graphs with adapter inputs. */
export async function adapterInput(model: SdxlModel, reference: Reference, layers: AdapterLayers): Promise<AdapterInput> {
  const encoder = model.imageEncoder;
  if (encoder === null) throw new Error('this model folder has no image encoder');
  const size = Number(encoder.inputShape('sample')[2]) || model.defaultSize;
  const picture = await readPicture(reference.path, size, size);
  const { ip_tokens: tokens } = await encoder.run({ sample: { data: toPlanes(picture), dims: [1, 3, size, size] } }, ['ip_tokens']);
  return {
    tokens,
    // the untouched side of the guidance sees no picture at all: zero tokens
    emptyTokens: { data: new Float32Array(tokens.data.length), dims: tokens.dims },
    scales: Float32Array.from(layers.layers, (name) => (layers.types[reference.type][name] ?? 0) * reference.strength),
  };
}
