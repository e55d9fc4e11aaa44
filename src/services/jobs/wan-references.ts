import { type WanReferenceMode, wanReferenceMode } from '../../inference/generation.js';
import { defaultReferenceStrength } from '../catalogue.js';
import type { PlannedReference } from './plan.js';
import type { ValidJob } from './payload.js';

/** Guidance with a reference, at strength 0 and at strength 1. */
const guidanceOfStrength = [5, 9] as const;

export interface WanReferencePlan {
  mode: WanReferenceMode;
  planned: PlannedReference[];
  /** Null without a reference, and where the job says so explicitly. */
  strength: number | null;
}

/**
 * Which pictures a WAN job goes by: `config` wins over `metadata`, a first or last frame beats a single
 * picture.
 */
export function resolveWanReferences(job: Pick<ValidJob, 'config' | 'metadata'>): WanReferencePlan {
  const config = job.config ?? {};
  const metadata = job.metadata ?? {};
  const pick = (
    role: PlannedReference['role'],
    ...candidates: Array<[field: string, url: string | null | undefined]>
  ): PlannedReference[] =>
    candidates
      .flatMap(([field, url]) => (url === undefined || url === null ? [] : [{ role, url, field }]))
      .slice(0, 1);
  const ends = [
    ...pick(
      'start',
      ['config.first_frame', config.first_frame],
      ['metadata.start_reference_url', metadata.start_reference_url],
    ),
    ...pick(
      'end',
      ['config.last_frame', config.last_frame],
      ['metadata.end_reference_url', metadata.end_reference_url],
    ),
  ];
  const planned =
    ends.length > 0
      ? ends
      : pick(
          'reference',
          ['config.image', config.image],
          ['metadata.reference_image_url', metadata.reference_image_url],
        );
  const mode = wanReferenceMode(Object.fromEntries(planned.map(({ role, url }) => [role, url])));
  if (mode === 'none') return { mode, planned, strength: null };
  const strength =
    metadata.reference_strength === undefined ? defaultReferenceStrength : metadata.reference_strength;
  return { mode, planned, strength };
}

/**
 * A reference's strength decides the guidance; without one, or with an explicit null, the job's own stays.
 */
export function wanGuidance(
  own: number,
  { mode, strength }: Pick<WanReferencePlan, 'mode' | 'strength'>,
): number {
  if (mode === 'none' || strength === null) return own;
  const [least, most] = guidanceOfStrength;
  // 5 + 4 × 0.85 is 8.4, not 8.399999999999999: receivers see this number.
  return Number((least + (most - least) * strength).toFixed(6));
}

/** Every picture that a job of either kind names, used or not. */
export function referencesOf({ config, metadata }: Pick<ValidJob, 'config' | 'metadata'>) {
  const named: Array<[field: string, url: string | null | undefined]> = [
    ['config.image', config?.image],
    ['config.first_frame', config?.first_frame],
    ['config.last_frame', config?.last_frame],
    ['metadata.reference_image_url', metadata?.reference_image_url],
    ['metadata.start_reference_url', metadata?.start_reference_url],
    ['metadata.end_reference_url', metadata?.end_reference_url],
  ];
  return named.flatMap(([field, url]) => (typeof url === 'string' ? [{ field, url }] : []));
}
