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

/** Stages that take as long each time. A text that was encoded before takes no time, and says nothing about a new one. */
const repeatable: ReadonlySet<keyof StageLimits> = new Set(['reference', 'denoise', 'decode', 'encode']);
/** A stage that is silent for this many times what it usually takes between two reports hangs. */
const patience = 10;
/** Never less: another process may have the device, the disk or the cores for a while. */
const leastMs = 60_000;

/**
 * The limit for a request whose like has been measured on this machine: `seconds` for the whole stage, reported in `steps`
 * parts. Without a measurement, and never beyond it, the default.
 */
export function measuredLimitMs(stage: keyof StageLimits, defaultMs: number, seconds: number | undefined, steps: number): number {
  return seconds === undefined || !repeatable.has(stage) ? defaultMs : Math.min(defaultMs, Math.max(leastMs, (patience * seconds * 1000) / Math.max(1, steps)));
}
