import type { ErrorDetail } from '../../lib/errors.js';
import type { ReferenceType } from '../../inference/generation.js';
import type { JobType } from '../catalogue.js';
import type { EnhancementType } from './plan.js';

type Optional<T> = { [K in keyof T]?: T[K] | null | undefined };

/**
 * A payload that passed validation: what the runner may rely on. Unknown fields are left out of the type, not
 * of the payload.
 */
export interface ValidJob {
  id: string;
  type: JobType;
  prompt: string;
  user_id: string;
  /** W3C trace context of the producer, as it came. */
  traceparent?: unknown;
  tracestate?: unknown;
  compel_enabled?: boolean | null | undefined;
  compel_weights?: string | null | undefined;
  config?:
    | Optional<{
        num_images: number;
        seed: number;
        width: number;
        height: number;
        negative_prompt: string;
        image: string;
        first_frame: string;
        last_frame: string;
        frame_num: number;
        sample_guide_scale: number;
        sample_shift: number;
        sample_solver: string;
        sample_steps: number;
        size: string;
        expected_time: number;
        /** Ask for tokens with weights, timesteps and cache use in the job's metadata. */
        explain: boolean;
      }>
    | null
    | undefined;
  metadata?:
    | Optional<{
        reference_image_url: string;
        reference_type: ReferenceType;
        reference_strength: number;
        start_reference_url: string;
        end_reference_url: string;
        enhancement_type: EnhancementType;
        session_id: string;
        conversation_context: string;
      }>
    | null
    | undefined;
}

export type PayloadCheck =
  | { ok: true; job: ValidJob }
  | {
      ok: false;
      /** The payload's `id` where one can be read: it then gets a `failed` callback. */
      id: string | null;
      /** What else could be read of it. */
      known: { type?: JobType; userId?: string };
      /** `config.num_images must be 1, 3 or 6`: field and rule of the first problem. */
      summary: string;
      details: ErrorDetail[];
    };
