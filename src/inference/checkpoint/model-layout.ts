import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../lib/project.js';
import { readSafetensorsHeader } from './safetensors.js';

export type DrawingEngine = 'sdxl' | 'wan';

/** In a model folder: weights in the form that one device wants, made from the folder's own. */
export const packedFolder = 'packed';

const stems = ['diffusion_pytorch_model', 'model'];
const variants = ['', '.fp16', '.bf16', '.fp32', '.non_ema'];

/** The weights in one part of a diffusers folder: a `.safetensors` file, or the index of several. */
export function weightsFile(folder: string): string | undefined {
  return stems
    .flatMap((stem) =>
      variants.flatMap((variant) => [
        `${stem}${variant}.safetensors`,
        `${stem}${variant}.safetensors.index.json`,
        `${stem}.safetensors.index${variant}.json`,
      ]),
    )
    .map((name) => path.join(folder, name))
    .find((file) => existsSync(file));
}

/**
 * What checkpoints of one kind share and their publisher's own layout does not hold: configurations, and SDXL's
 * tokenizers.
 */
const sharedFolder = (engine: DrawingEngine) => path.join(projectRoot(), 'models/shared', engine);

/** A single-file checkpoint that lies in the models folder as it came. */
export const isLoneFile = (folder: string) =>
  folder.endsWith('.safetensors') && statSync(folder, { throwIfNoEntry: false })?.isFile() === true;

/** Whether a `.safetensors` file is a single-file SDXL, by the names in its header. @throws for one without */
export const isSdxlFile = async (file: string): Promise<boolean> =>
  (await readSafetensorsHeader(file)).entries.some(
    ([name]) => name === 'model.diffusion_model.input_blocks.0.0.weight',
  );

/** Bytes that a card holds of a `.safetensors` file: what is stored in float32 is computed in half of it there. */
export async function bytesOnCard(file: string): Promise<number> {
  const { entries } = await readSafetensorsHeader(file);
  const sizes = (entries as Array<[string, { dtype?: string; data_offsets?: number[] }]>).map(
    ([, { dtype, data_offsets: [from = 0, to = 0] = [] }]) => (dtype === 'F32' ? (to - from) / 2 : to - from),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Where a model's weights lie in the form that one device wants: in its folder, or beside a lone file. */
export const packedPlace = (folder: string): string =>
  isLoneFile(folder)
    ? path.join(path.dirname(folder), `.${packedFolder}`, path.basename(folder, '.safetensors'))
    : path.join(folder, packedFolder);

/** A checkpoint in its publisher's own layout: the file of each part, `undefined` for those that are missing. */
export type OriginalLayout = Record<string, string | undefined>;

/**
 * One `.safetensors` file in a folder without parts, as most people keep SDXL; or Wan's own folder. Undefined where
 * the folder has diffusers' parts or exported graphs.
 */
export function originalLayout(engine: DrawingEngine, folder: string): OriginalLayout | undefined {
  if (isLoneFile(folder)) return engine === 'sdxl' ? { unet: folder } : undefined;
  const main = engine === 'sdxl' ? 'unet' : 'transformer';
  if (existsSync(path.join(folder, main, 'model.onnx')) || weightsFile(path.join(folder, main)) !== undefined)
    return undefined;
  const names = existsSync(folder) ? readdirSync(folder) : [];
  if (engine === 'sdxl') {
    const single = names.filter((name) => name.endsWith('.safetensors'));
    return single.length === 1 ? { unet: path.join(folder, single[0] as string) } : undefined;
  }
  const find = (pattern: RegExp) =>
    names.filter((name) => pattern.test(name)).map((name) => path.join(folder, name))[0];
  const vae = find(/^Wan2\.1_VAE\.(pth|safetensors)$/);
  if (vae === undefined) return undefined;
  return {
    transformer: weightsFile(folder),
    text_encoder: find(/^models_t5_[\w.-]+\.(pth|safetensors)$/),
    vae,
  };
}

/** An IP-Adapter as it is published, and the folder of the image encoder that it was trained with. */
export interface AdapterPlace {
  /** One, or it is not clear which is meant. */
  files: string[];
  encoder: string;
}

/** Where a model's adapter lies: in its folder, or beside a lone file. */
export const adapterFolder = (folder: string): string =>
  path.join(isLoneFile(folder) ? path.dirname(folder) : folder, 'ip_adapter');

const encoderName = 'image_encoder';

/**
 * The adapter of an SDXL model, if it has one. Its image encoder is the model's, as diffusers saves it, or lies with it
 * in any folder of that name, as in the publisher's repository.
 */
export function findAdapter(folder: string): AdapterPlace | undefined {
  const place = adapterFolder(folder);
  const names = (existsSync(place) ? (readdirSync(place, { recursive: true }) as string[]) : []).sort();
  const inside = names.map((name) => ({ file: path.join(place, name), parts: name.split(path.sep) }));
  const seen = inside.filter(({ parts }) => !parts.some((part) => part.startsWith('.')));
  const isAdapter = ({ file, parts }: (typeof seen)[number]) =>
    /\.(safetensors|bin)$/.test(file) && !parts.includes(encoderName);
  const files = seen.filter(isAdapter).map(({ file }) => file);
  if (files.length === 0) return undefined;
  const beside = seen.filter(({ parts }) => parts.at(-1) === encoderName).map(({ file }) => file);
  const encoder = [path.join(folder, encoderName), ...beside].find((each) => weightsFile(each) !== undefined);
  return { files, encoder: encoder ?? path.join(place, encoderName) };
}

/** A file of a model folder that is no weights, whatever the layout. */
export function modelFile(engine: DrawingEngine, folder: string, name: string): string {
  const adapter = engine === 'sdxl' ? findAdapter(folder) : undefined;
  if (adapter !== undefined && name === `${encoderName}/config.json`)
    return path.join(adapter.encoder, 'config.json');
  const own = path.join(folder, name);
  if (existsSync(own) || originalLayout(engine, folder) === undefined) return own;
  const published = path.join(folder, name.replace(/^tokenizer\//, 'google/umt5-xxl/'));
  if (engine === 'wan' && name === 'transformer/config.json') return path.join(folder, 'config.json');
  return existsSync(published) ? published : path.join(sharedFolder(engine), name);
}

/** Graphs by the part of a diffusers folder that they are built from, and the configurations either form needs. */
const parts: Record<
  DrawingEngine,
  Record<string, { graphs: string[]; config: string; exportedConfig: string[] }>
> = {
  sdxl: {
    unet: part('unet'),
    text_encoder: part('text_encoder'),
    text_encoder_2: part('text_encoder_2'),
    vae: { graphs: ['vae_decoder/model.onnx'], config: 'vae/config.json', exportedConfig: [] },
  },
  wan: {
    text_encoder: { ...part('text_encoder'), exportedConfig: [] },
    transformer: part('transformer'),
    vae: {
      graphs: ['vae_decoder/init.onnx', 'vae_decoder/step.onnx'],
      config: 'vae/config.json',
      exportedConfig: ['vae_decoder/config.json'],
    },
  },
};

function part(name: string) {
  const config = `${name}/config.json`;
  return { graphs: [`${name}/model.onnx`], config, exportedConfig: [config] };
}

const beside = {
  sdxl: [
    'model_index.json',
    'scheduler/scheduler_config.json',
    'tokenizer/vocab.json',
    'tokenizer/merges.txt',
    'tokenizer_2/vocab.json',
    'tokenizer_2/merges.txt',
  ],
  wan: ['model_index.json', 'tokenizer/tokenizer.json'],
};

/** Those of `names` that are not built from the folder's weights, but were exported or are missing. */
export function exportedGraphs(engine: DrawingEngine, folder: string, names: readonly string[]): string[] {
  if (originalLayout(engine, folder) !== undefined) return [];
  const built = Object.entries(parts[engine])
    .filter(([part]) => weightsFile(path.join(folder, part)) !== undefined)
    .flatMap(([, { graphs }]) => graphs);
  return names.filter((name) => !built.includes(name) || existsSync(path.join(folder, name)));
}

/**
 * Files without which an engine cannot open its model folder (docs/models.md), each an absolute path: exported
 * graphs where they are, else the checkpoint's weights. Validation names the same ones before it tries.
 */
export function requiredFiles(engine: DrawingEngine, folder: string): string[] {
  const adapter = engine === 'sdxl' ? findAdapter(folder) : undefined;
  return [...modelFiles(engine, folder), ...(adapter === undefined ? [] : adapterFiles(adapter))];
}

const adapterFiles = ({ files, encoder }: AdapterPlace): string[] => [
  ...files,
  path.join(encoder, 'config.json'),
  weightsFile(encoder) ?? path.join(encoder, 'model.safetensors'),
];

function modelFiles(engine: DrawingEngine, folder: string): string[] {
  const original = originalLayout(engine, folder);
  const own = (name: string) => modelFile(engine, folder, name);
  if (original !== undefined)
    return [
      ...Object.entries(original).map(([name, file]) => file ?? path.join(folder, name)),
      ...beside[engine].map(own),
    ];
  const graphs = Object.entries(parts[engine]).flatMap(([part, { graphs: names, config, exportedConfig }]) =>
    exportedGraphs(engine, folder, names).length > 0
      ? [...names, ...exportedConfig].map(own)
      : [weightsFile(own(part)) as string, own(config)],
  );
  return [...beside[engine].map(own), ...graphs];
}
