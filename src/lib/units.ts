/** Bytes; GB means this everywhere. */
export const gibibyte = 1024 ** 3;

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
