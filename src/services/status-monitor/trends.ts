/** One look at what only ever grows, and at what should not. */
export interface Sample {
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
      const names = samples.length < leastSamples ? [] : Object.keys(sample.bytes).filter((name) => samples.every(({ bytes }) => bytes[name] !== undefined));
      return {
        overSeconds: ms / 1000, jobsEnded: ended, jobsPerHour: ms === 0 ? 0 : (ended * hourMs) / ms, errorRate: ended === 0 ? null : (sample.failed - first.failed) / ended,
        bytesPerHour: Object.fromEntries(names.map((name) => [name, slope(samples.map(({ atMs, bytes }) => [atMs, bytes[name] ?? 0])) * hourMs])),
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
