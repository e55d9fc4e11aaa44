import path from 'node:path';
import { formatTable } from '../output.js';
import { ggufMemoryBytes, type ModelLocations, type PublishedModel } from './catalogue.js';
import type { PulledFolder } from './files.js';
import type { Imported } from '../../inference/checkpoint/import.js';
import { gigabytes, type PullPlan } from './pull.js';

/** What a pull does, for scripts. */
export function summary(plan: PullPlan) {
  const { model, quantisation, commit, folder, totalBytes, presentBytes, standing, files } = plan;
  return {
    name: model.name,
    repository: model.repository,
    commit,
    quantisation: quantisation ?? null,
    folder,
    standing,
    total_bytes: totalBytes,
    present_bytes: presentBytes,
    files,
  };
}

export function describePlan({ model, commit, quantisation, files, folder, ...plan }: PullPlan): string {
  const present = plan.presentBytes > 0 ? `, ${gigabytes(plan.presentBytes)} of them here` : '';
  const lines = [
    [model.title, quantisation].filter((part) => part !== undefined).join(', '),
    `${model.repository} at ${commit.slice(0, 12)}, ${model.licence}`,
    `${files.length} files, ${gigabytes(plan.totalBytes)}${present} -> ${folder}`,
  ];
  if (model.quantisations !== undefined) {
    const memory = (prompts?: number) => gigabytes(ggufMemoryBytes(model, plan.totalBytes, prompts));
    lines.push(`Needs about ${memory(1)} of memory for one prompt, ${memory()} for eight at once.`);
  }
  return lines.join('\n');
}

export function describeNext(
  { model, folder, totalBytes }: PullPlan,
  { modelsDir, isDefault }: ModelLocations,
): string {
  const lines = [`${model.name}: ${gigabytes(totalBytes)} in ${folder}, every file checked`];
  lines.push(...(model.notes ?? []));
  if (isDefault) lines.push(`Start the service with MODELS_DIR=${modelsDir} to use it.`);
  return lines.join('\n');
}

export function describeImport(done: Imported, seconds: number, source: string): string {
  const { engine, isAdapter, folder, tensors, bytes, stillThere } = done;
  const model = engine === 'sdxl' ? 'SDXL' : 'Wan 2.1';
  const kind = isAdapter ? `IP-Adapter and image encoder for ${model}` : model;
  return [
    `${folder}: ${kind}, ${tensors} tensors, ${gigabytes(bytes)} read and checked in ${seconds.toFixed(1)} s`,
    ...(stillThere > 0 ? [`Its weights stay where they are: do not move or delete ${source}.`] : []),
    isAdapter
      ? 'Restart the engine to use it: references then enter as image tokens.'
      : `Start the service with MODELS_DIR=${path.dirname(folder)} to use it.`,
  ].join('\n');
}

export function describeAll(
  models: readonly PublishedModel[],
  pulled: readonly PulledFolder[],
  locations: ModelLocations,
): string {
  const state = (model: PublishedModel) => {
    const here = pulled.find(({ record }) => record.name === model.name);
    return here === undefined
      ? ''
      : `here${here.record.quantisation === undefined ? '' : ` (${here.record.quantisation})`}`;
  };
  const rows = models.map((model) => [
    model.name,
    model.engine,
    gigabytes(model.bytes),
    state(model),
    model.title,
  ]);
  const table = formatTable(['NAME', 'ENGINE', 'SIZE', 'STATE', 'WHAT'], rows);
  return `${table}\n\nModels folder: ${locations.modelsDir}`;
}

export function describeModel(model: PublishedModel): string {
  const lines = [
    model.title,
    `https://huggingface.co/${model.repository} at ${model.revision}, ${model.licence}`,
    ...(model.notes ?? []),
  ];
  if (model.memoryBytes !== undefined) lines.push(`Needs about ${gigabytes(model.memoryBytes)} of memory.`);
  if (model.quantisations !== undefined) {
    const { bytes, default: chosen } = model.quantisations;
    lines.push(
      '',
      formatTable(
        ['QUANT', 'DOWNLOAD', 'MEMORY, ONE PROMPT', 'MEMORY, EIGHT'],
        Object.entries(bytes).map(([quant, size]) => [
          quant === chosen ? `${quant} (default)` : quant,
          gigabytes(size),
          gigabytes(ggufMemoryBytes(model, size, 1)),
          gigabytes(ggufMemoryBytes(model, size)),
        ]),
      ),
    );
  }
  return lines.join('\n');
}
