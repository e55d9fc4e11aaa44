import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { exportedGraphs } from '../../inference/checkpoint/model-layout.js';
import { readGraphFacts, type Border, type GraphFacts } from './onnx-graph.js';

type Kind = 'ids' | 'floats' | 'numbers';
const allowed: Record<Kind, readonly string[]> = {
  ids: ['int32', 'int64'],
  floats: ['float32', 'float16'],
  numbers: ['float32', 'float16', 'int32', 'int64'],
};

/**
 * Inputs a graph must have, with their kind and the numbers of dimensions the engine can feed; outputs by
 * name.
 */
interface GraphRule {
  inputs: Record<string, [Kind, ...number[]]>;
  outputs: string[];
}
/**
 * Extents that are one and the same thing in several graphs: `graph:tensor:axis`; what several tensors are
 * joined to is their sum.
 */
type Equality = [string, ...string[]];

const rules: Record<
  'sdxl' | 'wan',
  { graphs: Record<string, GraphRule>; equal: Array<[Equality, Equality, string]> }
> = {
  sdxl: {
    graphs: {
      'text_encoder/model.onnx': { inputs: { input_ids: ['ids', 2] }, outputs: ['last_hidden_state'] },
      'text_encoder_2/model.onnx': { inputs: { input_ids: ['ids', 2] }, outputs: ['text_embeds'] },
      'unet/model.onnx': {
        inputs: {
          sample: ['floats', 4],
          timestep: ['numbers', 0, 1],
          encoder_hidden_states: ['floats', 3],
          text_embeds: ['floats', 2],
          time_ids: ['floats', 2],
        },
        outputs: ['out_sample'],
      },
      'vae_decoder/model.onnx': { inputs: { latent_sample: ['floats', 4] }, outputs: ['sample'] },
    },
    equal: [
      [['unet/model.onnx:sample:1'], ['vae_decoder/model.onnx:latent_sample:1'], 'latent channels'],
      [
        ['unet/model.onnx:text_embeds:1'],
        ['text_encoder_2/model.onnx:text_embeds:1'],
        'width of the pooled text',
      ],
      [
        ['unet/model.onnx:encoder_hidden_states:2'],
        ['text_encoder/model.onnx:last_hidden_state:2', 'text_encoder_2/model.onnx:last_hidden_state:2'],
        'width of the text',
      ],
    ],
  },
  wan: {
    graphs: {
      'text_encoder/model.onnx': {
        inputs: { input_ids: ['ids', 2], attention_mask: ['ids', 2] },
        outputs: ['last_hidden_state'],
      },
      'transformer/model.onnx': {
        inputs: {
          hidden_states: ['floats', 5],
          timestep: ['numbers', 0, 1],
          encoder_hidden_states: ['floats', 3],
        },
        outputs: ['sample'],
      },
      'vae_decoder/init.onnx': { inputs: { latent_frame: ['floats', 4] }, outputs: ['video_frames'] },
      'vae_decoder/step.onnx': { inputs: { latent_frame: ['floats', 4] }, outputs: ['video_frames'] },
    },
    equal: [
      [
        ['transformer/model.onnx:hidden_states:1'],
        ['vae_decoder/init.onnx:latent_frame:1'],
        'latent channels',
      ],
      [
        ['transformer/model.onnx:encoder_hidden_states:2'],
        ['text_encoder/model.onnx:last_hidden_state:2'],
        'width of the text',
      ],
    ],
  },
};

/**
 * What is wrong with a model folder's graphs: their borders' names, types and shapes, whether they fit each
 * other, and their weight files.
 */
export async function problemsOfGraphs(engine: 'sdxl' | 'wan', folder: string): Promise<string[]> {
  const { graphs, equal } = rules[engine];
  const facts = new Map<string, GraphFacts>();
  const problems = (
    await Promise.all(
      exportedGraphs(engine, folder, Object.keys(graphs)).map(async (name) => {
        const rule = graphs[name] as GraphRule;
        const file = path.join(folder, name);
        try {
          const graph = await readGraphFacts(file);
          facts.set(name, graph);
          return [...problemsOfBorder(graph, rule), ...(await problemsOfWeights(file, graph))].map(
            (problem) => `${file} ${problem}`,
          );
        } catch (error) {
          return [`${file} ${error instanceof Error ? error.message : String(error)}`];
        }
      }),
    )
  ).flat();
  for (const [one, other, what] of equal) {
    const [a, b] = [sumOf(one, facts), sumOf(other, facts)];
    if (a !== null && b !== null && a !== b)
      problems.push(
        `${folder}: ${what}: ${a} in ${graphOf(one)}, ${b} in ${graphOf(other)}; the files are not of one model`,
      );
  }
  return problems;
}

function problemsOfBorder(graph: GraphFacts, { inputs, outputs }: GraphRule): string[] {
  return [
    ...Object.entries(inputs).flatMap(([name, [kind, ...ranks]]) => {
      const found: Border | undefined = graph.inputs.get(name);
      if (found === undefined)
        return [`has no input ${name}; it has ${[...graph.inputs.keys()].slice(0, 8).join(', ')}`];
      return [
        ...(allowed[kind].includes(found.type)
          ? []
          : [`takes ${found.type} as ${name}; known are ${allowed[kind].join(' and ')}`]),
        ...(ranks.includes(found.shape.length)
          ? []
          : [`takes ${name} with ${found.shape.length} dimensions instead of ${ranks.join(' or ')}`]),
      ];
    }),
    ...outputs
      .filter((name) => !graph.outputs.has(name))
      .map((name) => `has no output ${name}; it has ${[...graph.outputs.keys()].slice(0, 8).join(', ')}`),
  ];
}

async function problemsOfWeights(file: string, { weightFiles }: GraphFacts): Promise<string[]> {
  const folder = await realpath(path.dirname(file));
  return (
    await Promise.all(
      [...weightFiles].map(async ([name, bytes]) => {
        const weights = path.join(folder, name);
        const info = await stat(weights).catch(() => null);
        if (info === null) return [`needs ${name} beside it`];
        if (info.size < bytes) return [`needs ${bytes} bytes of ${name}, which has ${info.size}`];
        return (await realpath(weights)).startsWith(`${folder}${path.sep}`)
          ? []
          : [`needs ${name} as a real file: ONNX Runtime does not follow a link out of the folder`];
      }),
    )
  ).flat();
}

const graphOf = ([first]: Equality) => first.split(':')[0];

/** Null when an extent is not stated. */
function sumOf(parts: Equality, facts: ReadonlyMap<string, GraphFacts>): number | null {
  const extents = parts.map((part) => {
    const [graph = '', tensor = '', axis = ''] = part.split(':');
    const found = facts.get(graph);
    return (found?.inputs.get(tensor) ?? found?.outputs.get(tensor))?.shape[Number(axis)];
  });
  return extents.every((extent): extent is number => typeof extent === 'number' && extent > 0)
    ? extents.reduce((sum, extent) => sum + extent, 0)
    : null;
}
