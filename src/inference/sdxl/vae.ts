import type { SdxlModel } from './model.js';
import { decodePlan, decodeTiled, smallTiles, type TileOptions } from './tiled-decode.js';
import { allFinite } from '../diffusion/floats.js';
import { type Picture, toPictures, toPlanes } from '../diffusion/pictures.js';
import type { Generator } from '../diffusion/random.js';
import { describeFailure, EngineFailure } from '../engine.js';
import type { FloatTensor } from '../onnx/session.js';

/**
 * Decodes one image: latents / scaling factor through the decoder, then round(255·clamp(x/2 + 0.5)), halves
 * to even.
 */
export async function decodeLatents(
  model: SdxlModel,
  latents: Float32Array,
  width: number,
  height: number,
): Promise<Picture> {
  const [picture] = toPictures(await decodeWithinMemory(model, latents, width, height), width, height);
  return picture as Picture;
}

async function decodeWithinMemory(
  model: SdxlModel,
  latents: Float32Array,
  width: number,
  height: number,
): Promise<Float32Array> {
  const shape = {
    channels: model.latentChannels,
    width: width / model.vaeScale,
    height: height / model.vaeScale,
    scale: model.vaeScale,
  };
  const inTiles = (options: TileOptions) =>
    decodeTiled(latents, shape, options, (part, tile) =>
      decodeToFloats(model, part, tile.width * model.vaeScale, tile.height * model.vaeScale),
    );
  try {
    const plan = decodePlan(width * height, model.vaeScale, model.largestDecode);
    return plan === null ? await decodeToFloats(model, latents, width, height) : await inTiles(plan);
  } catch (error) {
    if (describeFailure(error).code !== 'out_of_memory') throw error;
    return inTiles(smallTiles);
  }
}

/**
 * Decoder output [3, H, W], not clamped.
 * @throws EngineFailure `engine_failed` when the decoder overflowed (NaN or infinity), as fp16 SDXL VAEs do
 */
export async function decodeToFloats(
  model: SdxlModel,
  latents: Float32Array,
  width: number,
  height: number,
): Promise<Float32Array> {
  const dims = [1, model.latentChannels, height / model.vaeScale, width / model.vaeScale];
  const { sample } = await model.vaeDecoder.run(
    { latent_sample: { data: latents.map((value) => value / model.scalingFactor), dims } },
    ['sample'],
  );
  if (!allFinite(sample.data)) {
    throw new EngineFailure(
      'engine_failed',
      'The VAE decoder overflowed, as the stock SDXL VAE does in fp16. Use fp16-fix weights, or the checkpoint itself.',
    );
  }
  return sample.data;
}

/** Mean of a picture's posterior, scaled: what a picture is in latents when nothing is drawn. [1, C, h, w] */
export async function encodeMean(model: SdxlModel, picture: Picture): Promise<FloatTensor> {
  if (model.vaeEncoder?.outputNames.includes('latent_parameters') !== true)
    throw new EngineFailure(
      'model_missing',
      "The folder's image_encoder needs a vae_encoder with the output latent_parameters, which is not there",
    );
  const parameters = await runEncoder(model, picture, 'latent_parameters');
  return {
    data: parameters.slice(0, parameters.length / 2).map((value) => value * model.scalingFactor),
    dims: [1, model.latentChannels, picture.height / model.vaeScale, picture.width / model.vaeScale],
  };
}

/**
 * Encodes a picture for image-to-image: scaled latents drawn from the posterior with one `randn` of the
 * generator. Older exports sample inside the graph; their output is taken as it is and draws nothing.
 */
export async function encodePicture(
  model: SdxlModel,
  picture: Picture,
  generator: Generator,
): Promise<Float32Array> {
  if (model.vaeEncoder?.outputNames.includes('latent_parameters') === false)
    return (await runEncoder(model, picture, 'latent_sample')).map((value) => value * model.scalingFactor);
  const parameters = await runEncoder(model, picture, 'latent_parameters');
  const count = parameters.length / 2;
  return generator.randn(count).map((value, i) => {
    const logVariance = Math.min(Math.max(parameters[count + i] as number, -30), 20);
    return ((parameters[i] as number) + Math.exp(0.5 * logVariance) * value) * model.scalingFactor;
  });
}

async function runEncoder(
  { vaeEncoder }: SdxlModel,
  picture: Picture,
  output: 'latent_parameters' | 'latent_sample',
): Promise<Float32Array> {
  if (vaeEncoder === null)
    throw new EngineFailure(
      'model_missing',
      'Reference images need a vae_encoder, which this model folder does not have',
    );
  const sample = { data: toPlanes(picture), dims: [1, 3, picture.height, picture.width] };
  return (await vaeEncoder.run({ sample }, [output]))[output].data;
}
