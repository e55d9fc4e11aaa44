import type { EngineStage } from '../../inference/engine-protocol.js';
import type { PendingRequest } from './engine-requests.js';

/** Longest time without any progress event in each stage, milliseconds; `denoise` counts per step. */
export type StageLimits = Record<EngineStage | 'warmUp', number>;

/**
 * Generous on purpose: they catch a hang, they do not police speed. Full-size WAN on a slow card needs
 * minutes for one step, and a cold model folder on a network disk needs minutes to load.
 */
export const defaultStageLimitsMs: StageLimits = {
  waiting: 120_000,
  load: 900_000,
  warmUp: 900_000,
  text: 300_000,
  reference: 300_000,
  denoise: 600_000,
  decode: 600_000,
  encode: 300_000,
};

export interface WatchdogLimits {
  helloTimeoutMs: number;
  /** Silence on the heartbeat channel after which the process is taken for stopped or dead. */
  heartbeatTimeoutMs: number;
  /** How long a cancelled request may go on (or three of its longest steps, if that is more). */
  cancelGraceMs: number;
  stageLimitsMs: StageLimits;
}

/** Why a process must be killed; `request` is the one it hangs in. */
interface Hang {
  reason: string;
  request: PendingRequest | null;
}

/**
 * Decides when a process hangs: it never said hello, its heart stopped, or one of its requests makes no
 * progress. `look` is to be called every `intervalMs`.
 */
export function createWatchdog(
  { helloTimeoutMs, heartbeatTimeoutMs, cancelGraceMs, stageLimitsMs }: WatchdogLimits,
  now: () => number = () => performance.now(),
) {
  const shortestMs = Math.min(heartbeatTimeoutMs, cancelGraceMs, ...Object.values(stageLimitsMs));
  const intervalMs = Math.max(20, Math.min(1000, shortestMs / 4));
  const startedAtMs = now();
  let saidHello = false;
  let lastBeatMs = startedAtMs;
  let lastLookMs = startedAtMs;

  /** A late look means that this process itself was stopped or starved; beats wait unread in the pipe. */
  function forgiveOwnPause(requests: readonly PendingRequest[]): void {
    const sinceLastMs = now() - lastLookMs;
    lastLookMs = now();
    if (sinceLastMs <= intervalMs + Math.min(1000, heartbeatTimeoutMs / 2)) return;
    lastBeatMs = Math.max(lastBeatMs, now() - intervalMs);
    for (const request of requests) request.sinceMs += sinceLastMs;
  }

  function hangOf(request: PendingRequest, first: PendingRequest | undefined): string | null {
    // Waiting behind another request is no hang, however long that one takes.
    if (request.stage === 'waiting' && request !== first) {
      request.sinceMs = now();
      if (request.cancelledAtMs !== null) request.cancelledAtMs = now();
      return null;
    }
    const { stage, steps, longestStepMs, cancelledAtMs } = request;
    const expectedSeconds = request.expectedStageSeconds[stage];
    // One thread serves all requests: beside long native steps the others go on, and are heard, between two
    // of
    // them.
    const besideMs =
      first === undefined || first === request || first.computeDone
        ? 0
        : 3 * Math.max(first.longestStepMs, now() - first.sinceMs);
    const usualStepMs = ((expectedSeconds ?? 0) * 1000) / Math.max(1, steps);
    // A load cannot be interrupted, and others may wait for it.
    const leastMs = stage === 'load' ? stageLimitsMs.load : cancelGraceMs;
    const graceMs = besideMs + Math.max(leastMs, 3 * longestStepMs, 3 * usualStepMs);
    if (cancelledAtMs !== null && now() - cancelledAtMs > graceMs)
      return `did not stop within ${seconds(graceMs)} after a cancellation`;
    const limitMs = besideMs + measuredLimitMs(stage, stageLimitsMs[stage], expectedSeconds, steps);
    return now() - request.sinceMs > limitMs ? `no progress in stage ${stage} for ${seconds(limitMs)}` : null;
  }

  return {
    intervalMs,
    hello(): void {
      saidHello = true;
      lastBeatMs = now();
    },
    beat(): void {
      lastBeatMs = now();
    },
    silentMs: () => now() - lastBeatMs,
    /** @param requests oldest first; their times are of the same clock */
    look(requests: readonly PendingRequest[]): Hang | null {
      forgiveOwnPause(requests);
      if (!saidHello)
        return now() - startedAtMs > helloTimeoutMs
          ? { reason: `did not report in within ${seconds(helloTimeoutMs)} of its start`, request: null }
          : null;
      if (now() - lastBeatMs > heartbeatTimeoutMs)
        return { reason: `no heartbeat for ${seconds(heartbeatTimeoutMs)}`, request: null };
      const first = requests.find(({ computeDone }) => !computeDone) ?? requests[0];
      for (const request of requests) {
        const reason = hangOf(request, first);
        if (reason !== null) return { reason, request };
      }
      return null;
    },
  };
}

/**
 * Stages that take as long each time. A text that was encoded before takes no time, and says nothing about a
 * new one.
 */
const repeatable: ReadonlySet<keyof StageLimits> = new Set(['reference', 'denoise', 'decode', 'encode']);
/** A stage that is silent for this many times what it usually takes between two reports hangs. */
const patience = 10;
/** Never less: another process may have the device, the disk or the cores for a while. */
const leastLimitMs = 60_000;

/**
 * The limit for a request whose like has been measured on this machine: `seconds` for the whole stage,
 * reported in `steps` parts. Without a measurement, and never beyond it, the default.
 */
export function measuredLimitMs(
  stage: keyof StageLimits,
  defaultMs: number,
  seconds: number | undefined,
  steps: number,
): number {
  return seconds === undefined || !repeatable.has(stage)
    ? defaultMs
    : Math.min(defaultMs, Math.max(leastLimitMs, (patience * seconds * 1000) / Math.max(1, steps)));
}

function seconds(ms: number): string {
  return `${ms >= 1000 ? Math.round(ms / 1000) : ms / 1000} s`;
}
