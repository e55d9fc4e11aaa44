import { concat } from '../diffusion/floats.js';
import { checkpoint, describeFailure } from '../engine.js';
import type { OnnxSession, Values } from './session.js';

/** Rows that fit into one call. Learns: a call that ran out of memory is not tried at that size again. */
export interface RowLimit {
  rows: number;
}

interface RowOptions {
  /** Rows of the call; a feed that has fewer is read again from its first. Scalars are for all rows. */
  rows: number;
  /** Feeds that are for all rows though they have axes. */
  shared?: Record<string, Values>;
  limit: RowLimit;
  signal: AbortSignal;
}

/**
 * Runs a graph over all rows in as few calls as memory allows. A call that runs out of memory is made again
 * with half as many rows; a single row that does not fit fails with the runtime's error.
 * @returns each row of the output, as float32
 */
export async function runInRows(
  session: Pick<OnnxSession, 'run'>,
  feeds: Record<string, Values>,
  output: string,
  { rows, shared = {}, limit, signal }: RowOptions,
): Promise<Float32Array[]> {
  const results: Float32Array[] = [];
  while (results.length < rows) {
    const first = results.length;
    const count = Math.min(limit.rows, rows - first);
    const taken = Object.fromEntries(
      Object.entries(feeds).map(([name, values]) => [name, takeRows(values, first, count)]),
    );
    let part: Float32Array | undefined;
    try {
      part = (await session.run({ ...taken, ...shared }, [output]))[output]?.data;
    } catch (error) {
      if (count === 1 || describeFailure(error).code !== 'out_of_memory') throw error;
      limit.rows = Math.ceil(count / 2);
      continue;
    }
    if (part === undefined) throw new Error(`the graph did not produce ${output}`);
    const size = part.length / count;
    for (let row = 0; row < count; row += 1) results.push(part.subarray(row * size, (row + 1) * size));
    if (results.length < rows) await checkpoint(signal);
  }
  return results;
}

/** Rows of a feed, without a copy where they lie together: a clip's are megabytes, and every step takes them. */
function takeRows({ data, dims }: Values, from: number, count: number): Values {
  const [have, ...rest] = dims;
  if (have === undefined) return { data, dims };
  const size = data.length / have;
  const row = (index: number) => ((from + index) % have) * size;
  const extent = [count, ...rest];
  if (!(data instanceof Float32Array))
    return {
      data: Array.from({ length: count }, (_, i) => data.slice(row(i), row(i) + size)).flat(),
      dims: extent,
    };
  const together = (from % have) + count <= have;
  return {
    data: together
      ? data.subarray(row(0), row(0) + count * size)
      : concat(Array.from({ length: count }, (_, i) => data.subarray(row(i), row(i) + size))),
    dims: extent,
  };
}
