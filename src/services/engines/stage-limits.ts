import type { EngineStage } from '../../inference/engine-protocol.js';

/** Longest time without any progress event in each stage, milliseconds; `denoise` counts per step. */
export type StageLimits = Record<EngineStage | 'warmUp', number>;

/**
 * Generous on purpose: they catch a hang, they do not police speed. Full-size WAN on a slow card needs minutes for one
 * step, and a cold model folder on a network disk needs minutes to load.
 */
export const defaultStageLimitsMs: StageLimits = {
  waiting: 120_000, load: 900_000, warmUp: 900_000, text: 300_000, reference: 300_000, denoise: 600_000, decode: 600_000, encode: 300_000,
};
