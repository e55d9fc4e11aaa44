import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { JobType } from '../catalogue.js';
import type { JobProgress } from '../queue/job-store.js';
import { rounded } from '../../lib/units.js';

/** Stages of a job in order, with the share of the time they take where nothing is known yet. */
const stageShares = {
  enhance: 0.1,
  references: 0.02,
  load: 0,
  waiting: 0,
  text: 0.03,
  reference: 0.02,
  denoise: 0.68,
  decode: 0.08,
  encode: 0.03,
  upload: 0.04,
} as const;
export type TimedStage = keyof typeof stageShares;
const order = Object.keys(stageShares) as TimedStage[];

/** Of what is learnt of a type as a whole. */
const keyOf = (type: JobType) => `type ${type}`;

/** Seconds per stage, smoothed over past jobs of the same kind and size. */
export type StageSeconds = Partial<Record<TimedStage, number>>;

export interface EstimatorOptions {
  /** JSON file that keeps what was learnt over restarts; none in tests that do not need it. */
  file?: string;
  now?: () => number;
}

/**
 * Turns stage and step into a fraction of the whole job and a time left, from how long past jobs of the same
 * key took on this machine. The key names everything that changes the duration: type, size, steps, pictures
 * or frames.
 */
export function createProgressEstimator({ file, now = () => performance.now() }: EstimatorOptions = {}) {
  const learnt = new Map<string, StageSeconds>();
  let saving: Promise<void> = Promise.resolve();

  async function load(): Promise<void> {
    if (file === undefined) return;
    let text: string;
    try {
      text = await readFile(file, 'utf8');
    } catch {
      return;
    }
    try {
      const entries: unknown = JSON.parse(text);
      if (typeof entries !== 'object' || entries === null) return;
      for (const [key, value] of Object.entries(entries)) if (isStageSeconds(value)) learnt.set(key, value);
    } catch {
      // What was learnt is a convenience: a file cut short by a crash is learnt anew.
    }
  }

  function save(): void {
    if (file === undefined) return;
    const target = file;
    saving = saving
      .then(async () => {
        await mkdir(path.dirname(target), { recursive: true });
        await writeFile(`${target}.new`, JSON.stringify(Object.fromEntries(learnt)));
        await rename(`${target}.new`, target);
      })
      .catch(() => {});
  }

  function learn(key: string, measured: StageSeconds): void {
    const known = learnt.get(key);
    const merged: StageSeconds = { ...known };
    for (const stage of order) {
      const value = measured[stage];
      if (value === undefined || stage === 'waiting' || stage === 'load') continue;
      const earlier = known?.[stage];
      merged[stage] = rounded(earlier === undefined ? value : 0.7 * earlier + 0.3 * value);
    }
    learnt.delete(key);
    learnt.set(key, merged);
  }

  /** Follows one attempt of one job. */
  function track(
    key: string,
    stages: ReadonlySet<TimedStage>,
    takingTurns: readonly [TimedStage, TimedStage] = ['denoise', 'decode'],
    type?: JobType,
  ) {
    const known = learnt.get(key);
    const planned = order.filter((stage) => stages.has(stage));
    const seconds = (stage: TimedStage) => (known === undefined ? stageShares[stage] : (known[stage] ?? 0));
    const total = planned.reduce((sum, stage) => sum + seconds(stage), 0) || 1;
    const measured: StageSeconds = {};
    let current: { stage: TimedStage; sinceMs: number } | null = null;
    let highest = 0;
    let firstStep: { step: number; ms: number } | null = null;
    /** How far the two stages are that take turns (picture by picture, frame by frame); 0–1. */
    const reached = new Map<TimedStage, number>(takingTurns.map((stage) => [stage, 0]));

    /**
     * Seconds done when `stage` is `within` (0–1) through: all stages before it, except what the one it takes
     * turns with still needs.
     */
    function secondsDone(stage: TimedStage, within: number): number {
      if (reached.has(stage)) reached.set(stage, within);
      const position = planned.indexOf(stage);
      return planned.reduce((sum, each, index) => {
        const other = each !== stage && reached.has(stage) ? reached.get(each) : undefined;
        return sum + seconds(each) * (index === position ? within : (other ?? (index < position ? 1 : 0)));
      }, 0);
    }

    function close(): void {
      if (current === null) return;
      measured[current.stage] = (measured[current.stage] ?? 0) + (now() - current.sinceMs) / 1000;
      current = null;
    }

    return {
      at(stage: TimedStage, step = 0, steps = 0): JobProgress {
        if (current?.stage !== stage) {
          close();
          current = { stage, sinceMs: now() };
          firstStep = null;
        }
        const within = steps > 0 ? Math.min(1, step / steps) : 0;
        highest = Math.min(0.99, Math.max(highest, secondsDone(stage, within) / total));
        if (stage === 'denoise' && step >= 1) firstStep ??= { step, ms: now() };
        return { stage, step, steps, fraction: rounded(highest), etaSeconds: timeLeft(stage, step, steps) };
      },
      /** The attempt ended well: remember how long its stages took. */
      succeeded(): void {
        close();
        learn(key, measured);
        if (type !== undefined) learn(keyOf(type), measured);
        if (learnt.size > 500) learnt.delete(learnt.keys().next().value ?? '');
        save();
      },
      /** Seconds each stage of this attempt took so far. */
      timings(): StageSeconds {
        const running: StageSeconds =
          current === null
            ? {}
            : { [current.stage]: (measured[current.stage] ?? 0) + (now() - current.sinceMs) / 1000 };
        return Object.fromEntries(
          Object.entries({ ...measured, ...running }).map(([stage, value]) => [stage, rounded(value)]),
        );
      },
    };

    function timeLeft(stage: TimedStage, step: number, steps: number): number | null {
      const perStep =
        stage === 'denoise' && firstStep !== null && step > firstStep.step
          ? (now() - firstStep.ms) / 1000 / (step - firstStep.step)
          : null;
      if (known !== undefined) {
        const left = Math.max(0, (1 - highest) * total);
        // This job's own pace counts for its own steps: the machine may be busier, or less busy, than it used
        // to be. Where
        // other stages come between, steps do not tell.
        return rounded(
          perStep === null || reached.has('denoise')
            ? left
            : Math.max(0, left - seconds('denoise') * (1 - step / steps)) + perStep * (steps - step),
        );
      }
      // Nothing learnt yet: the steps done in this very job tell the time of the rest, stages after it by
      // their usual share.
      return perStep === null ? null : rounded(perStep * (steps - step) + perStep * steps * 0.2);
    }
  }

  return {
    load,
    track,
    /** Seconds by stage of jobs with this key, once there was one. */ stageSeconds: (
      key: string,
    ): StageSeconds | undefined => learnt.get(key),
    /** What a job of this type takes, of whatever size, once there was one. */
    typeSeconds(type: JobType): number | undefined {
      const stages = learnt.get(keyOf(type));
      return stages === undefined
        ? undefined
        : rounded(Object.values(stages).reduce((sum, seconds) => sum + seconds, 0));
    },
    saved: () => saving,
  };
}
export type ProgressEstimator = ReturnType<typeof createProgressEstimator>;
export type ProgressTracker = ReturnType<ProgressEstimator['track']>;

function isStageSeconds(value: unknown): value is StageSeconds {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.entries(value).every(
      ([stage, seconds]) =>
        Object.hasOwn(stageShares, stage) &&
        typeof seconds === 'number' &&
        Number.isFinite(seconds) &&
        seconds >= 0,
    )
  );
}
