export const mebibyte = 1024 ** 2;
/** GB means this everywhere people read it. */
export const gibibyte = 1024 ** 3;

/** Numbers for people and records: to a thousandth unless more digits matter. */
export const rounded = (value: number, digits = 3): number => Number(value.toFixed(digits));

/** What callbacks and usage records carry; null where nobody knows. */
export const gigabytes = (bytes: number | null): number | null =>
  bytes === null ? null : rounded(bytes / gibibyte);

/**
 * `12.5GB`, `48GB`, `0GB`: the string form of spec section 8 (GiB, one decimal unless whole). Null, unknown:
 * `unknown`.
 */
export function formatGigabytes(bytes: number | null): string {
  if (bytes === null) return 'unknown';
  const rounded = Math.round((bytes / gibibyte) * 10) / 10;
  return `${rounded}GB`;
}

/** `2025-07-23T18:30:00.000Z`, as answers have it. */
export const iso = (ms: number): string => new Date(ms).toISOString();

/** `2025-07-23T18:30:00Z`, as the orchestrator's clients parse it: whole seconds, always UTC. */
export const isoSeconds = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');

/** `85%`. */
export function formatPercent(fraction: number | null): string {
  return fraction === null ? 'unknown' : `${Math.round(fraction * 100)}%`;
}

/** `72°C`. */
export function formatCelsius(degrees: number | null): string {
  return degrees === null ? 'unknown' : `${Math.round(degrees)}°C`;
}
