import type { AdapterInput } from './denoise.js';
import type { AdapterLayers, SdxlModel } from './model.js';
import { encodeMean } from './vae.js';
import { readPicture, toPlanes } from '../diffusion/pictures.js';
import type { ReferenceType } from '../generation.js';

export interface Reference {
  path: string;
  type: ReferenceType;
  /** 0.1–1.0: how much of the reference is kept. */
  strength: number;
}

/**
 * img2img's own strength is how much may change. A stock export has no adapter, so the reference is the
 * picture to start from: reference_strength s keeps more the higher it is. Composition keeps outlines (0.9 -
 * 0.5·s may change); style keeps colours only (0.95 - 0.25·s); character keeps the most (0.85 - 0.55·s).
 */
export function imageToImageStrength({ type, strength }: Reference): number {
  const [base, slope] = { composition: [0.9, 0.5], style: [0.95, 0.25], character: [0.85, 0.55] }[type] as [
    number,
    number,
  ];
  return base - slope * strength;
}

/**
 * Image tokens of a reference for the graphs with adapter inputs. Their image encoder reads the picture
 * itself (`sample`), or what the VAE's encoder makes of it (`latent_sample`).
 */
export async function adapterInput(
  model: SdxlModel,
  reference: Reference,
  layers: AdapterLayers,
): Promise<AdapterInput> {
  const encoder = model.imageEncoder;
  if (encoder === null) throw new Error('this model folder has no image encoder');
  const ofLatents = encoder.hasInput('latent_sample');
  const side = Number(encoder.inputShape(ofLatents ? 'latent_sample' : 'sample')[2]);
  const size = Number.isNaN(side) ? model.defaultSize : side * (ofLatents ? model.vaeScale : 1);
  const picture = await readPicture(reference.path, size, size);
  const feeds = ofLatents
    ? { latent_sample: await encodeMean(model, picture) }
    : { sample: { data: toPlanes(picture), dims: [1, 3, size, size] } };
  const absent = encoder.outputNames.includes('empty_ip_tokens') ? ['empty_ip_tokens'] : [];
  const { ip_tokens: tokens, empty_ip_tokens: empty } = await encoder.run(feeds, ['ip_tokens', ...absent]);
  if (tokens === undefined) throw new Error('the image encoder has no output ip_tokens');
  return {
    tokens,
    // the unconditional side sees no picture: IP-Adapter projects zeros, without such an output the tokens
    // are zeros
    emptyTokens: empty ?? { data: new Float32Array(tokens.data.length), dims: tokens.dims },
    scales: Float32Array.from(
      layers.layers,
      (name) => (layers.types[reference.type][name] ?? 0) * reference.strength,
    ),
  };
}
