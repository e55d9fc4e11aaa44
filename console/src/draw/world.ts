import type { Capabilities } from '../api.js';
import { isSdxl } from './draft.js';

/** What a small model says it knows; a full-size one says nothing, it knows most. */
export interface World {
  examples: string[];
  native: { width: number; height: number } | null;
}

export function worldOf(capabilities: Capabilities | undefined, type: string): World | null {
  const engine = capabilities?.engines[isSdxl(type) ? 'sdxl' : 'wan'] as
    { world?: { examples?: string[]; native_size?: { width: number; height: number } } | null } | undefined;
  if (!engine?.world) return null;
  return { examples: engine.world.examples ?? [], native: engine.world.native_size ?? null };
}

export const examplesOf = (world: World | null): string[] => world?.examples.slice(0, 6) ?? [];
