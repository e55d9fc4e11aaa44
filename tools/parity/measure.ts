/** One comparison with a recorded reference. */
export interface Measure {
  what: string;
  value: number;
  bound: number;
  /** `max`: largest absolute difference, at most the bound; `dB`: PSNR, at least the bound. */
  unit: 'max' | 'dB';
  ok: boolean;
}

/** Largest |a - b|, optionally relative to max(1, |b|); other lengths or NaN are infinitely far. */
export function largestDifference(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  relative = false,
): number {
  if (actual.length !== expected.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < actual.length; i += 1) {
    const reference = expected[i] as number;
    const difference =
      Math.abs((actual[i] as number) - reference) / (relative ? Math.max(1, Math.abs(reference)) : 1);
    if (Number.isNaN(difference)) return Infinity;
    worst = Math.max(worst, difference);
  }
  return worst;
}

export function near(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: number,
  relative = false,
): Measure {
  const value = largestDifference(actual, expected, relative);
  return { what, value, bound, unit: 'max', ok: value <= bound };
}

/** Ids, fragments and the like: equal or not. */
export function same(what: string, equal: boolean): Measure {
  return { what, value: equal ? 0 : Infinity, bound: 0, unit: 'max', ok: equal };
}

/** Decibels of values in [0, 1]. */
export function peakSignalToNoise(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return -Infinity;
  let sum = 0;
  for (let i = 0; i < actual.length; i += 1) sum += ((actual[i] as number) - (expected[i] as number)) ** 2;
  return sum === 0 ? Infinity : -10 * Math.log10(sum / actual.length);
}

export function standardDeviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}
