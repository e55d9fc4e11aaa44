import type { Trouble } from '../../lib/errors.js';
import { roomCure } from '../../lib/data-folder.js';
import { gibibyte } from '../../lib/units.js';

/** What may run out, with how much of it is used; null: nobody knows the limit. */
export interface Limits {
  serviceBytes: number;
  serviceLimitBytes: number | null;
  diskFreeBytes: number | null;
  waiting: Readonly<Record<string, number>>;
  /** 0: no limit. */
  maxWaiting: number;
  temperatureCelsius: number | null;
}

const soonHours = 2;
/** GPUs slow themselves down a few degrees above. */
const hotCelsius = 85;
const highErrorRate = 0.2;
const leastJobs = 5;
const fullShare = 0.8;

/** What will reach a limit if it goes on like this, or is close to one already. */
export function warningsOf(limits: Limits, trends: Trends): Trouble[] {
  const warnings: Trouble[] = [];
  const warn = (code: string, what: string, cause: string, cure: string, target?: string) =>
    warnings.push({
      code,
      severity: 'warning',
      what,
      cause,
      cure,
      ...(target === undefined ? {} : { target }),
    });
  const grows = (name: string) => Math.max(0, trends.bytesPerHour[name] ?? 0);

  if (limits.serviceLimitBytes !== null) {
    const left = limits.serviceLimitBytes - limits.serviceBytes;
    const hours = grows('service') === 0 ? Infinity : left / grows('service');
    const uses = `it uses ${gigabytes(limits.serviceBytes)} of ${gigabytes(limits.serviceLimitBytes)}`;
    const cure = 'Restart the service at a quiet moment, or give its container more memory.';
    if (left < 0.1 * limits.serviceLimitBytes)
      warn('memory_low', 'The service is short of memory', uses, cure);
    else if (hours < soonHours)
      warn(
        'memory_low',
        'The service will be short of memory',
        `${uses}, ${gigabytes(grows('service'))} more each hour: the limit is reached in ${hours.toFixed(1)} hours`,
        cure,
      );
  }
  if (limits.diskFreeBytes !== null) {
    const hours = grows('disk') === 0 ? Infinity : limits.diskFreeBytes / grows('disk');
    if (hours < soonHours)
      warn(
        'disk_filling',
        'The disk fills up',
        `that of DATA_DIR will be full in ${hours.toFixed(1)} hours`,
        roomCure,
      );
  }
  if (limits.maxWaiting > 0) {
    for (const [queue, waiting] of Object.entries(limits.waiting)) {
      if (waiting > fullShare * limits.maxWaiting)
        warn(
          'queue_filling',
          `${queue} is nearly full`,
          `${waiting} jobs wait in it; from ${limits.maxWaiting} on new ones are refused`,
          'Start more workers on the queue, cancel jobs, or raise MAX_WAITING_JOBS.',
          queue,
        );
    }
  }
  if (limits.temperatureCelsius !== null && limits.temperatureCelsius >= hotCelsius)
    warn(
      'gpu_hot',
      'The GPU is hot',
      `it is at ${Math.round(limits.temperatureCelsius)} °C and will slow itself down`,
      'See to its fans and the air around it, or lower its power limit (nvidia-smi -pl).',
    );
  if (trends.errorRate !== null && trends.errorRate > highErrorRate && trends.jobsEnded >= leastJobs)
    warn(
      'jobs_failing',
      'Many jobs fail',
      `${Math.round(trends.errorRate * 100)} % of the ${trends.jobsEnded} jobs of the last hour failed`,
      'Read why: "ourvidz jobs list --status failed" and "ourvidz dead-letters".',
    );
  return warnings;
}

const gigabytes = (bytes: number) => `${(bytes / gibibyte).toFixed(1)} GiB`;

/** One look at what only ever grows, and at what should not. */
interface Sample {
  atMs: number;
  /** Jobs since the start: all that ended, and those of them that failed. */
  ended: number;
  failed: number;
  /** By what is measured: `service`, an engine, `disk`. */
  bytes: Readonly<Record<string, number>>;
}

export interface Trends {
  overSeconds: number;
  /** Within the window. */
  jobsEnded: number;
  jobsPerHour: number;
  /** Failed share of the jobs that ended; null when none did. */
  errorRate: number | null;
  /** Least squares over the window, bytes an hour; only what was there all the time. */
  bytesPerHour: Record<string, number>;
}

const hourMs = 3_600_000;
/** Fewer points make a slope of noise. */
const leastSamples = 10;

/** Keeps the samples of the last `windowMs` and says where they lead. */
export function createTrends({ windowMs = hourMs } = {}) {
  let samples: Sample[] = [];
  return {
    add(sample: Sample): Trends {
      samples = [...samples.filter(({ atMs }) => sample.atMs - atMs <= windowMs), sample];
      const first = samples[0] ?? sample;
      const ms = sample.atMs - first.atMs;
      const ended = sample.ended - first.ended;
      const names =
        samples.length < leastSamples
          ? []
          : Object.keys(sample.bytes).filter((name) =>
              samples.every(({ bytes }) => bytes[name] !== undefined),
            );
      return {
        overSeconds: ms / 1000,
        jobsEnded: ended,
        jobsPerHour: ms === 0 ? 0 : (ended * hourMs) / ms,
        errorRate: ended === 0 ? null : (sample.failed - first.failed) / ended,
        bytesPerHour: Object.fromEntries(
          names.map((name) => [
            name,
            slope(samples.map(({ atMs, bytes }) => [atMs, bytes[name] ?? 0])) * hourMs,
          ]),
        ),
      };
    },
  };
}

/** Of the straight line that fits best. */
function slope(points: ReadonlyArray<readonly [x: number, y: number]>): number {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  return spread === 0 ? 0 : points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
}
