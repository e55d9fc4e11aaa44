import { checkpoint, describeFailure } from '../engine.js';
import type { OnnxSession, Values } from './session.js';

/** Rows that fit into one call. Learns: a call that ran out of memory is not tried at that size again. */
export interface RowLimit {
  rows: number;
}

interface RowOptions {
  /** Extent of the first axis of every feed that has one; scalars are for all rows. */
  rows: number;
  /** Feeds that are for all rows though they have axes. */
  shared?: Record<string, Values>;
  limit: RowLimit;
  signal: AbortSignal;
}

/**
 * Runs a graph over all rows in as few calls as memory allows. A call that runs out of memory is made again
 * with half as many rows; a single row that does not fit fails with the runtime's error.
 * @returns the output's rows end to end, as float32
 */
export async function runInRows(
  session: Pick<OnnxSession, 'run'>,
  feeds: Record<string, Values>,
  output: string,
  { rows, shared = {}, limit, signal }: RowOptions,
): Promise<Float32Array> {
  let result: Float32Array | undefined;
  for (let row = 0; row < rows;) {
    const count = Math.min(limit.rows, rows - row);
    let part: Float32Array | undefined;
    try {
      const slice =
        count === rows
          ? feeds
          : Object.fromEntries(
              Object.entries(feeds).map(([name, values]) => [name, sliceRows(values, rows, row, count)]),
            );
      part = (await session.run({ ...slice, ...shared }, [output]))[output]?.data;
    } catch (error) {
      if (count === 1 || describeFailure(error).code !== 'out_of_memory') throw error;
      limit.rows = Math.ceil(count / 2);
      continue;
    }
    if (part === undefined) throw new Error(`the graph did not produce ${output}`);
    if (count === rows) return part;
    result ??= new Float32Array((part.length / count) * rows);
    result.set(part, (part.length / count) * row);
    row += count;
    await checkpoint(signal);
  }
  return result ?? new Float32Array(0);
}

function sliceRows(values: Values, rows: number, from: number, count: number): Values {
  if (values.dims.length === 0) return values;
  const size = values.data.length / rows;
  return {
    data: values.data.slice(from * size, (from + count) * size),
    dims: [count, ...values.dims.slice(1)],
  };
}
