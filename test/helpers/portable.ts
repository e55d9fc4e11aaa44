import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { packWeights } from '../../src/inference/checkpoint/packed-weights.js';
import type { Graph } from '../../src/inference/graphs/graph.js';
import {
  attribute,
  type AttributeProto,
  type ModelProto,
  type NodeProto,
  encodeModel,
  rawTensor,
} from '../../src/inference/graphs/onnx-proto.js';
import { openSession, type OnnxSession } from '../../src/inference/onnx/session.js';

/**
 * The same model with every fp16 product as fp16: the CPU computes these in float32, and leaves the roundings out where
 * nothing stands between two of them.
 */
function rounded(nodes: readonly NodeProto[], axis: string): NodeProto[] {
  return nodes.flatMap((node) => {
    const attribute = node.attribute.map(({ g, ...rest }) =>
      g === undefined ? rest : { ...rest, g: { ...g, node: rounded(g.node, axis) } },
    );
    if (!['FusedMatMul', 'FastGelu', 'Mul'].includes(node.opType)) return [{ ...node, attribute }];
    const [name = ''] = node.output;
    const [exact, wide] = [`${name} exact`, `${name} wide`];
    const step = (opType: string, input: string, output: string): NodeProto => ({
      name: `${input}/${opType}`,
      opType,
      domain: '',
      input: [input, axis],
      output: [output],
      attribute: [],
    });
    return [
      { ...node, attribute, output: [exact] },
      step('Unsqueeze', exact, wide),
      step('Squeeze', wide, name),
    ];
  });
}

/** A graph in its portable form on the CPU; what is to be packed goes into `folder`. */
export async function openForm(graph: Graph, folder: string): Promise<OnnxSession> {
  const file = path.join(folder, `${randomUUID()}.safetensors`);
  const packed = graph.packed.length === 0 ? undefined : await packWeights(file, graph.packed);
  const given = portable(graph.model(packed));
  given.graph.initializer.push(rawTensor('first axis', 'int64', [1], [0]));
  const node = graph.form.type === 'float16' ? rounded(given.graph.node, 'first axis') : given.graph.node;
  const model = encodeModel({ ...given, graph: { ...given.graph, node } });
  return openSession({ title: graph.title, model }, { device: 'cpu', threads: 1 });
}

type Rewrite = (node: NodeProto, write: Writer) => void;
interface NodeOptions {
  name?: string;
  attributes?: AttributeProto[];
  outputs?: string[];
  domain?: string;
}

type Writer = ReturnType<typeof createWriter>;

/**
 * The same model in standard operators, where it has some that only CUDA's provider knows: what these mean is said here
 * a second time, so that a CPU can compare.
 */
export function portable(model: ModelProto): ModelProto {
  return { ...model, graph: { ...model.graph, node: rewritten(model, model.graph.node) } };
}

function rewritten(model: ModelProto, given: readonly NodeProto[]): NodeProto[] {
  const nodes: NodeProto[] = [];
  const write = createWriter(model, nodes);
  for (const node of given) {
    const rewrite = node.domain === 'com.microsoft' ? rewrites[node.opType] : undefined;
    const attributes = node.attribute.map(({ g, ...rest }) =>
      g === undefined ? rest : { ...rest, g: { ...g, node: rewritten(model, g.node) } },
    );
    if (rewrite === undefined) nodes.push({ ...node, attribute: attributes });
    else rewrite(node, write);
  }
  return nodes;
}

/** Over all graphs: a loop's body sees the names around it. */
let count = 0;

function createWriter({ graph }: ModelProto, nodes: NodeProto[]) {
  const unused = (): string => `portable_${(count += 1)}`;
  const op = (opType: string, input: string[], options: NodeOptions = {}): string => {
    const name = options.name ?? unused();
    const { attributes = [], outputs = [name], domain = '' } = options;
    nodes.push({ name, opType, domain, input, output: outputs, attribute: attributes });
    return outputs[0] as string;
  };
  return {
    op,
    ints(...values: number[]): string {
      const name = unused();
      graph.initializer.push(rawTensor(name, 'int64', [values.length], values));
      return name;
    },
    floats(values: number[]): string {
      const name = unused();
      graph.initializer.push(rawTensor(name, 'float', [values.length], values));
      return name;
    },
    transposed: (x: string, perm: number[], name?: string): string =>
      op('Transpose', [x], {
        ...(name === undefined ? {} : { name }),
        attributes: [attribute('perm', perm)],
      }),
    /** In the float type of `like`. */
    like: (x: string, like: string, name?: string): string =>
      op('CastLike', [x, like], name === undefined ? {} : { name }),
  };
}

const float = (node: NodeProto, name: string) => node.attribute.find((each) => each.name === name)?.f ?? NaN;
const int = (node: NodeProto, name: string) => node.attribute.find((each) => each.name === name)?.i ?? NaN;
const first = (node: NodeProto) => ({ name: node.output[0] as string });

const rewrites: Record<string, Rewrite> = {
  BiasAdd(node, { op }) {
    const [x, bias, skip] = node.input as [string, string, string];
    op('Add', [op('Add', [x, bias]), skip], first(node));
  },
  BiasSplitGelu(node, { op }) {
    const [x, bias] = node.input as [string, string];
    const [left, right] = [`${node.name}_left`, `${node.name}_right`];
    op('Split', [op('Add', [x, bias])], { outputs: [left, right], attributes: [attribute('axis', -1)] });
    op('Mul', [left, op('Gelu', [right], { domain: 'com.microsoft' })], first(node));
  },
  NhwcConv(node, { op, transposed }) {
    const [x, weight, ...bias] = node.input as [string, string, ...string[]];
    const inputs = [transposed(x, [0, 3, 1, 2]), transposed(weight, [0, 3, 1, 2]), ...bias];
    transposed(op('Conv', inputs, { attributes: node.attribute }), [0, 2, 3, 1], node.output[0]);
  },
  GroupNorm(node, write) {
    const [x, gamma, beta] = node.input as [string, string, string];
    groupNorm(node, x, gamma, beta, write);
  },
  SkipGroupNorm(node, write) {
    const { op, ints } = write;
    const [x, gamma, beta, skip, bias = ''] = node.input as [string, string, string, string, string?];
    // [N, C] and [N, H, W, C] alike as [N, 1 or H·W, C]
    const channels = op('Slice', [op('Shape', [x]), ints(3), ints(4)]);
    const rows = op('Concat', [ints(0, -1), channels], { attributes: [attribute('axis', 0)] });
    const flat = (value: string) => op('Reshape', [value, rows]);
    const whole = op('Reshape', [op('Add', [flat(x), flat(skip)]), op('Shape', [x])]);
    const sum = bias === '' ? whole : op('Add', [whole, bias]);
    if (node.output[1] !== undefined) op('Identity', [sum], { name: node.output[1] });
    groupNorm(node, sum, gamma, beta, write);
  },
};

function groupNorm(node: NodeProto, x: string, gamma: string, beta: string, write: Writer): void {
  const { op, transposed, ints, floats } = write;
  const groups = int(node, 'groups');
  const wide = transposed(op('Cast', [x], { attributes: [attribute('to', 1)] }), [0, 3, 1, 2]);
  const even = floats(Array<number>(groups).fill(1));
  const none = floats(Array<number>(groups).fill(0));
  const grouped = op('Reshape', [wide, ints(0, groups, -1)]);
  const normal = op('InstanceNormalization', [grouped, even, none], {
    attributes: [attribute('epsilon', { float: float(node, 'epsilon') })],
  });
  const back = transposed(op('Reshape', [normal, op('Shape', [wide])]), [0, 2, 3, 1]);
  const y = op('Add', [op('Mul', [back, gamma]), beta]);
  write.like(int(node, 'activation') === 1 ? op('Mul', [y, op('Sigmoid', [y])]) : y, x, node.output[0]);
}
