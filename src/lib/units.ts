export const mebibyte = 1024 ** 2;
/** GB means this everywhere people read it. */
export const gibibyte = 1024 ** 3;

/** Numbers for people and records: to a thousandth unless more digits matter. */
export const rounded = (value: number, digits = 3): number => Number(value.toFixed(digits));

/** Of 10⁹ bytes: what callbacks and usage records carry. */
export const decimalGigabytes = (bytes: number | null): number | null =>
  bytes === null ? null : rounded(bytes / 1e9);

/**
 * `12.5GB`, `48GB`, `0GB`: the string form of spec section 8 (GiB, one decimal unless whole). Null, unknown:
 * `unknown`.
 */
export function formatGigabytes(bytes: number | null): string {
  if (bytes === null) return 'unknown';
  const rounded = Math.round((bytes / gibibyte) * 10) / 10;
  return `${rounded}GB`;
}

/** `85%`. */
export function formatPercent(fraction: number | null): string {
  return fraction === null ? 'unknown' : `${Math.round(fraction * 100)}%`;
}

/** `72°C`. */
export function formatCelsius(degrees: number | null): string {
  return degrees === null ? 'unknown' : `${Math.round(degrees)}°C`;
}
