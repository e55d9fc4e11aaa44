import type { Engines } from '../engines/engines.js';
import { describeState, type EngineStatus } from '../engines/engine-status.js';

export type Health = 'healthy' | 'degraded' | 'unhealthy';

/** Engines that draw; without Qwen prompts are used as they come. */
export const generationEngines = ['sdxl', 'wan'] as const;
const upStates: ReadonlySet<EngineStatus['state']> = new Set(['ready', 'busy', 'draining']);
/** A heartbeat is due every second, however long a computation takes. */
const silenceMs = 5000;

/** Works, or will with its next request. */
export const isUp = ({ state, resting }: EngineStatus): boolean => resting || upStates.has(state);
/** Given up for now. */
export const isDown = ({ state }: EngineStatus): boolean => state === 'failed' || state === 'backing_off';
/** Up, with nothing against it. */
export const isAble = (status: EngineStatus): boolean => isUp(status) && troubleOf(status) === null;

/**
 * Its first start, which ends with the warm-up's computing, is behind it; a memory budget that swaps models
 * may load it many times.
 */
export const hasComputed = ({ lastOperation }: EngineStatus): boolean => lastOperation !== null;

/**
 * What is wrong with an engine, in words; null when nothing is. Busy, resting or in its first start is not
 * wrong.
 */
export function troubleOf(status: EngineStatus): string | null {
  const { kind, state, lastOperation, silentMs } = status;
  if (isDown(status)) return `the ${describeState(status)}`;
  if (status.recovering) return `the ${describeState(status)} after a failure`;
  if (silentMs !== null && silentMs > silenceMs && state !== 'starting')
    return `the ${kind} engine has not responded for ${Math.round(silentMs / 1000)} s`;
  if (lastOperation?.ok === false && state !== 'stopped') return `the last run of the ${kind} engine failed`;
  return null;
}

/** `unhealthy`: no engine that draws is left. `degraded`: something is wrong with one. */
export function healthOf(engines: Pick<Engines, 'has' | 'status'>): Health {
  const drawing = generationEngines.filter((kind) => engines.has(kind)).map((kind) => engines.status(kind));
  if (drawing.length > 0 && drawing.every(isDown)) return 'unhealthy';
  const all = engines.has('qwen') ? [...drawing, engines.status('qwen')] : drawing;
  return all.some((status) => troubleOf(status) !== null) ? 'degraded' : 'healthy';
}
