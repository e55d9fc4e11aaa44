import { EngineFailure } from '../engine.js';
import type { WanGenerateParams } from '../engine-protocol.js';
import type { WanModel } from './model.js';

/** @throws EngineFailure `invalid_parameters` with the field, where a request cannot be drawn by this model */
export function requireValid(model: WanModel, params: WanGenerateParams): void {
  const { frames, output, references } = params;
  for (const field of ['width', 'height'] as const) {
    if (!isCount(params[field]) || params[field] % model.sizeMultiple !== 0) refuse('config.size', `${field} must be a positive multiple of ${model.sizeMultiple}`);
  }
  if (!isCount(frames) || (frames - 1) % model.framesPerLatent !== 0) refuse('config.frame_num', `must be ${model.framesPerLatent}n + 1`);
  if (output === 'image' && frames !== 1) refuse('config.frame_num', 'must be 1 for a picture');
  if (!isCount(params.steps)) refuse('config.sample_steps', 'must be a positive whole number');
  if (!(params.shift > 0)) refuse('config.sample_shift', 'must be greater than 0');
  const { reference, start, end } = references;
  if (model.vaeEncoder === null && (reference ?? start ?? end) !== undefined) refuse('config.image', 'this model folder has no vae_encoder: it cannot take reference images');
}

const isCount = (value: number) => Number.isInteger(value) && value > 0;

function refuse(field: string, rule: string): never {
  throw new EngineFailure('invalid_parameters', `${field} ${rule}`, field);
}
