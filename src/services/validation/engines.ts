import type { EngineKind } from '../../inference/engine-protocol.js';
import type { EngineStatus } from '../engines/types.js';
import type { Check, Finding, Severity } from './types.js';

/** What a state means for jobs; states not named are on their way to `ready`. */
const severities: Partial<Record<EngineStatus['state'], Severity>> = { failed: 'error', backing_off: 'error', stopped: 'warning', starting: 'warning', warming: 'warning', restarting: 'warning' };

/**
 * What the engines found out by loading their models, which nothing else can: graphs with wrong shapes or dtypes, a
 * provider library that is missing, a device that another one was taken for.
 */
export function checkEngines(engines: { has(kind: EngineKind): boolean; status(kind: EngineKind): EngineStatus }, kinds: readonly EngineKind[] = ['sdxl', 'wan', 'qwen']): Check {
  return async () => kinds.filter((kind) => engines.has(kind)).flatMap((kind): Finding[] => {
    const { state, reason, loaded, resting } = engines.status(kind);
    const subject = `${kind} engine`;
    const severity = resting ? 'ok' : severities[state] ?? 'ok';
    const message = `${state.replace('_', ' ')}${loaded === null ? '' : ` on ${loaded.device} with ${loaded.model.name}`}${reason === null ? '' : `: ${reason}`}`;
    return [
      { check: 'model_paths', subject, severity, message, ...(severity === 'error' ? { cure: `Read GET /worker/${kind}/logs, cure what it names, then POST /worker/restart/${kind}.` } : severity === 'warning' ? { cure: 'Wait until it is ready, then validate again.' } : {}) },
      ...(loaded?.deviceNotes ?? []).map((note): Finding => ({ check: 'gpu_availability', subject, severity: 'warning', message: note, cure: 'Install what it names, or set ORT_DEVICE to the device you want.' })),
    ];
  });
}
