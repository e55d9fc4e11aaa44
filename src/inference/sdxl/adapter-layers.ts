import { EngineFailure } from '../engine.js';
import type { ReferenceType } from '../engine-protocol.js';

/** Which cross-attention layers listen to a reference, by the folder's `adapter.json`; factors of 0 elsewhere. */
export interface AdapterLayers {
  /** Names of the layers in the order of `ip_scale`. */
  layers: string[];
  /** Factor per layer name for each type at strength 1. */
  types: Record<ReferenceType, Record<string, number>>;
}

/**
 * `adapter.json` of a model folder.
 * @throws EngineFailure `model_missing` when it is not of this form or names another number of layers than the UNet takes factors
 */
export function readAdapterLayers(text: string, factors: number): AdapterLayers {
  const table = JSON.parse(text) as Partial<AdapterLayers>;
  const layers = table.layers ?? [];
  const unknown = (['composition', 'style', 'character'] as const).flatMap((type) => {
    const names = Object.keys(table.types?.[type] ?? {});
    return names.length === 0 ? [`no layer for ${type}`] : names.filter((name) => !layers.includes(name)).map((name) => `unknown layer ${name}`);
  });
  const wrong = layers.length === factors ? unknown : [`${layers.length} layers, the UNet's ip_scale takes ${factors}`, ...unknown];
  if (wrong.length > 0) throw new EngineFailure('model_missing', `adapter.json does not fit the UNet beside it: ${wrong.join('; ')}`);
  return table as AdapterLayers;
}
