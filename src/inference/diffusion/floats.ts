import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Classifier-free guidance, neg + g·(pos - neg), over rows whose first half is the negative side (Ho and
 * Salimans 2022).
 */
export function guide(rows: readonly Float32Array[], guidanceScale: number): Float32Array {
  const half = rows.length / 2;
  const size = rows[0]?.length ?? 0;
  const guided = new Float32Array(half * size);
  for (let row = 0; row < half; row += 1) {
    const [negative, positive] = [rows[row], rows[half + row]] as [Float32Array, Float32Array];
    const at = row * size;
    for (let i = 0; i < size; i += 1) {
      const from = negative[i] as number;
      guided[at + i] = from + guidanceScale * ((positive[i] as number) - from);
    }
  }
  return guided;
}

type Term = readonly [weight: number, values: Float32Array];

/**
 * The sum of two to four arrays, each times its weight. Plain loops, one for each number of terms: a callback for each
 * of a clip's two million values, as `map` has it, took a tenth of a step.
 */
export function combine(...[first, second, third, fourth]: [Term, Term, Term?, Term?]): Float32Array {
  const [[a, x], [b, y]] = [first, second];
  const sum = new Float32Array(x.length);
  if (third === undefined) {
    for (let i = 0; i < sum.length; i += 1) sum[i] = a * (x[i] as number) + b * (y[i] as number);
    return sum;
  }
  const [c, z] = third;
  if (fourth === undefined) {
    for (let i = 0; i < sum.length; i += 1)
      sum[i] = a * (x[i] as number) + b * (y[i] as number) + c * (z[i] as number);
    return sum;
  }
  const [d, w] = fourth;
  for (let i = 0; i < sum.length; i += 1)
    sum[i] = a * (x[i] as number) + b * (y[i] as number) + c * (z[i] as number) + d * (w[i] as number);
  return sum;
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

const bits = new DataView(new ArrayBuffer(4));

/** IEEE 754 half precision; tensors of fp16 graphs cross as Uint16Array. */
export function halfToFloat(half: number): number {
  const sign = (half & 0x8000) === 0 ? 1 : -1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Rounds to nearest, ties to even; values beyond 65504 become infinite, as in hardware. */
export function floatToHalf(value: number): number {
  bits.setFloat32(0, value);
  const word = bits.getUint32(0);
  const sign = (word >>> 16) & 0x8000;
  const exponent = (word >>> 23) & 0xff;
  const fraction = word & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  const halfExponent = exponent - 112;
  if (halfExponent >= 31) return sign | 0x7c00;
  // subnormal halves: the implicit one becomes explicit and shifts right
  const mantissa = halfExponent > 0 ? fraction : fraction | 0x800000;
  const shift = halfExponent > 0 ? 13 : 14 - halfExponent;
  if (shift > 24) return sign;
  const kept = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  const rounded = kept + (rest > middle || (rest === middle && (kept & 1) === 1) ? 1 : 0);
  return sign | ((halfExponent > 0 ? halfExponent << 10 : 0) + rounded);
}

/** Node 24 converts halves natively, some fifty times as fast. */
interface HalfArray {
  readonly buffer: ArrayBuffer;
}
type HalfArrayConstructor = new (
  ...given: [ArrayLike<number>] | [ArrayBufferLike, number, number]
) => HalfArray & ArrayLike<number>;
const { Float16Array: NativeHalves } = globalThis as { Float16Array?: HalfArrayConstructor };

export function halvesToFloats(halves: Uint16Array): Float32Array {
  if (NativeHalves !== undefined)
    return new Float32Array(new NativeHalves(halves.buffer, halves.byteOffset, halves.length));
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < floats.length; i += 1) floats[i] = halfToFloat(halves[i] as number);
  return floats;
}

export function floatsToHalves(floats: Float32Array): Uint16Array {
  if (NativeHalves !== undefined) return new Uint16Array(new NativeHalves(floats).buffer);
  const halves = new Uint16Array(floats.length);
  for (let i = 0; i < halves.length; i += 1) halves[i] = floatToHalf(floats[i] as number);
  return halves;
}

/** Neither NaN nor an infinity: a plain loop, a tenth of what `every` takes for the pixels of a picture. */
export function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i] as number;
    if (value - value !== 0) return false;
  }
  return true;
}

// the collector's entry is a flag of V8; a context made after it is set has the function
setFlagsFromString('--expose-gc');

/**
 * Frees what is unreachable now, rather than when V8 thinks it worth while: for tensors and pixels that a
 * finished request held.
 */
export const collectGarbage = runInNewContext('gc') as () => void;
