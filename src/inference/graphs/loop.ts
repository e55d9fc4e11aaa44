import type { Layer, Value } from './graph.js';
import { type GraphProto, valueInfo } from './onnx-proto.js';

interface Turn {
  /** What the next turn is given. */
  state: readonly Value[];
  /** What of every turn is collected, along a new first axis. */
  scanned: readonly Value[];
}

/**
 * Computes `turn` as often as `count` says, int64 [1]; `state` goes from turn to turn.
 * @returns what was scanned
 */
export function loop(
  layer: Layer,
  count: Value,
  state: readonly Value[],
  turn: (index: Value, state: readonly Value[]) => Turn,
): Value[] {
  const { graph } = layer;
  const name = graph.unique(`${layer.path === '' ? graph.title : layer.path}/body`);
  const own = (suffix: string, { type }: { type: Value['type'] }): Value => ({
    name: `${name}/${suffix}`,
    type,
  });
  const index = own('turn', { type: 'int64' });
  const goes = own('goes', { type: 'bool' });
  const carried = state.map((value, i) => own(`state_${i}`, value));
  let made: Turn = { state: [], scanned: [] };
  const node = graph.inside(() => {
    made = turn(index, carried);
    layer.ops('Identity', [goes], 1, { names: [own('went', goes).name] });
  });
  // an output is made here, and once: what is not is copied
  const outputs = new Set<string>();
  const named = (values: readonly Value[], what: string) =>
    values.map((value, i) => {
      const isOwn = node.some(({ output }) => output.includes(value.name)) && !outputs.has(value.name);
      outputs.add(value.name);
      if (isOwn) return value;
      const copy = own(`${what}_${i}`, value);
      node.push(...graph.inside(() => layer.ops('Identity', [value], 1, { names: [copy.name] })));
      return copy;
    });
  made = { state: named(made.state, 'next'), scanned: named(made.scanned, 'scanned') };
  const body: GraphProto = {
    name,
    node,
    initializer: [],
    input: [valueInfo(index.name, 'int64', []), valueInfo(goes.name, 'bool', []), ...carried.map(untold)],
    output: [
      valueInfo(own('went', goes).name, 'bool', []),
      ...made.state.map(untold),
      ...made.scanned.map(untold),
    ],
  };
  const results = layer.ops('Loop', [count, null, ...state], state.length + made.scanned.length, {
    attributes: { body: { graph: body } },
    mixed: true,
  });
  return made.scanned.map(({ type }, i) => ({ name: (results[state.length + i] as Value).name, type }));
}

/** Of a shape that the runtime infers. */
const untold = ({ name, type }: Value) => valueInfo(name, type);
