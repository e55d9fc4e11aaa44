/** Numbers from a seed (mulberry32): the same seed gives the same run. */
export function createRandom(seed: number) {
  let state = seed >>> 0;
  function next(): number {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  return {
    next,
    /** From `low` up to, without, `high`. */
    between: (low: number, high: number) => low + next() * (high - low),
    index: (length: number) => Math.floor(next() * length),
    chance: (probability: number) => next() < probability,
    /** Looks like a random UUID (version 4). */
    uuid(): string {
      const hex = Array.from({ length: 32 }, () => Math.floor(next() * 16).toString(16));
      hex[12] = '4';
      hex[16] = '8';
      return hex.join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    },
  };
}
export type Random = ReturnType<typeof createRandom>;
