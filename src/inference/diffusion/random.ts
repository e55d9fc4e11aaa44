/**
 * torch's CPU generator: the same seed gives the same noise as `torch.Generator("cpu").manual_seed(seed)`.
 * Source of the algorithm: pytorch, aten/src/ATen/core/MT19937RNGEngine.h and DistributionTemplates.h.
 */

const stateSize = 624;
const shiftSize = 397;
const fround = Math.fround;
const twoPiFloat = fround(2 * Math.PI);

export type Generator = ReturnType<typeof createGenerator>;

/** Only the low 32 bits of the seed count, as in torch. `seed` is a non-negative integer up to 2^53. */
export function createGenerator(seed: number) {
  const state = new Uint32Array(stateSize);
  let index = stateSize;
  /** The second value of the last scalar pair; kept between calls, as torch keeps it. */
  let spare: number | undefined;

  state[0] = Number(BigInt(seed) & 0xffffffffn);
  for (let i = 1; i < stateSize; i += 1) {
    const previous = state[i - 1] as number;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }

  function twist(): void {
    for (let i = 0; i < stateSize; i += 1) {
      const joined =
        ((state[i] as number) & 0x80000000) | ((state[(i + 1) % stateSize] as number) & 0x7fffffff);
      state[i] =
        (state[(i + shiftSize) % stateSize] as number) ^
        (joined >>> 1) ^
        ((joined & 1) === 0 ? 0 : 0x9908b0df);
    }
    index = 0;
  }

  function nextUint32(): number {
    if (index === stateSize) twist();
    let y = state[index] as number;
    index += 1;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** 24 random bits as a float32 in [0, 1). */
  const uniformFloat = () => (nextUint32() & 0xffffff) / 2 ** 24;

  /** 53 random bits: the low 21 of the first word above the 32 of the second. */
  function uniformDouble(): number {
    const high = nextUint32() & 0x1fffff;
    return (high * 2 ** 32 + nextUint32()) / 2 ** 53;
  }

  function normalDouble(): number {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * uniformDouble();
    const radius = Math.sqrt(-2 * Math.log1p(-uniformDouble()));
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Box-Muller over 16 uniforms in place, float32 after every operation. */
  function transformBlock(values: Float32Array, offset: number): void {
    for (let j = offset; j < offset + 8; j += 1) {
      const radius = fround(Math.sqrt(fround(-2 * fround(Math.log(fround(1 - (values[j] as number)))))));
      const angle = fround(twoPiFloat * (values[j + 8] as number));
      values[j] = radius * fround(Math.cos(angle));
      values[j + 8] = radius * fround(Math.sin(angle));
    }
  }

  return {
    /** `torch.randn(count)` in float32; only the element count matters, not the shape. */
    randn(count: number): Float32Array {
      const values = new Float32Array(count);
      if (count < 16) {
        for (let i = 0; i < count; i += 1) values[i] = normalDouble();
        return values;
      }
      for (let i = 0; i < count; i += 1) values[i] = uniformFloat();
      for (let offset = 0; offset + 16 <= count; offset += 16) transformBlock(values, offset);
      if (count % 16 !== 0) {
        const tail = count - 16;
        for (let i = tail; i < count; i += 1) values[i] = uniformFloat();
        transformBlock(values, tail);
      }
      return values;
    },
  };
}
