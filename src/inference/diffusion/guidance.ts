/**
 * Classifier-free guidance, neg + g·(pos - neg), over an output whose first half is the negative side (Ho and
 * Salimans 2022).
 */
export function guide(output: Float32Array, guidanceScale: number): Float32Array {
  const half = output.length / 2;
  return output
    .subarray(0, half)
    .map((negative, i) => negative + guidanceScale * ((output[half + i] as number) - negative));
}

/** Arrays end to end. */
export function concat(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
