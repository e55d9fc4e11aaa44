import { readDocument } from '../../contract/document.js';
import { createContractValidator } from '../../contract/validator.js';
import type { ReferenceType } from '../../inference/generation.js';
import type { ErrorDetail } from '../../lib/errors.js';
import { parsePrompt, plainText } from '../../lib/prompt-weights.js';
import { catalogue, isJobType, type JobType, type QueueName, unknownType, wanFrames } from '../catalogue.js';
import type { DenyList } from '../enhancement/deny-list.js';
import { isUuid, type PayloadRead, saysNothing } from '../queue/read-payload.js';
import { dropTags, parseWeightList } from './compel-weights.js';
import type { EnhancementType } from './plan.js';
import { resolveWanReferences } from './wan-references.js';

/** Ids that are no UUIDs are told to the producer as they came, if they can stand in a header. */
const tellableId = /^[\x21-\x7e]{1,200}$/;
/** Unknown fields are carried along, but what cannot be written as JSON again must not come in. */
const deepestNesting = 64;
/** WAN's grid: 8 pixels a latent, 2 latents a patch. */
const sizeLimits = { maximum: 2048, multipleOf: 16 } as const;

/** Rule of a detail that stands for the deny list: over HTTP such a job has a code of its own. */
export const deniedRule = 'denyList';

export type PayloadValidator = ReturnType<typeof createPayloadValidator>;

/**
 * Checks job payloads by the contract's own schemas and the catalogue; the same rules for HTTP bodies and
 * queue strings.
 */
export function createPayloadValidator({
  document = readDocument(),
  denyList,
}: { document?: ReturnType<typeof readDocument>; denyList?: DenyList } = {}) {
  const validator = createContractValidator(document);
  const checks = {
    sdxl: validator.forBody(validator.schemaOf('SdxlJob')),
    wan: validator.forBody(validator.schemaOf('WanJob')),
  };

  /** `queue` is where the payload was found; its types alone are allowed then. */
  function validatePayload(payload: unknown, queue?: QueueName): PayloadCheck {
    if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) {
      return refuse({}, [{ field: 'body', rule: 'type', message: 'body must be a JSON object' }]);
    }
    const fields = withoutEmpty(payload as Record<string, unknown>);
    const type = Object.hasOwn(fields, 'type') ? fields['type'] : undefined;
    const details: ErrorDetail[] = [];
    if (!isJobType(type)) {
      details.push(
        type === undefined
          ? { field: 'type', rule: 'required', message: 'type is missing' }
          : { field: 'type', rule: 'enum', message: unknownType(type) },
      );
    } else if (queue !== undefined && catalogue[type].queue !== queue) {
      details.push({
        field: 'type',
        rule: 'queue',
        message: `type ${type} belongs on ${catalogue[type].queue}, not on ${queue}`,
      });
    }
    const engine = isJobType(type) ? catalogue[type].engine : queue === 'wan_queue' ? 'wan' : 'sdxl';
    details.push(...checks[engine](ownFields(fields)).filter(({ field }) => field !== 'type'));
    if (!Object.hasOwn(fields, 'id'))
      details.unshift({ field: 'id', rule: 'required', message: 'id is missing' });
    if (engine === 'wan') details.push(...checkSize(fields['config']));
    if (nestingOf(fields) > deepestNesting)
      details.push({
        field: 'body',
        rule: 'maxDepth',
        message: `body must not be nested deeper than ${deepestNesting}`,
      });
    if (details.length > 0) return refuse(fields, details);
    const id = String(fields['id']);
    // Ids are compared in lower case; callbacks give them as they were written.
    const job = (id === id.toLowerCase()
      ? fields
      : { ...fields, id: id.toLowerCase() }) as unknown as ValidJob;
    if (engine === 'wan') details.push(...checkEnds(job));
    if (details.length > 0) return refuse(fields, details);
    const { prompt, compel_weights: weights, metadata } = job;
    const phrases = parseWeightList(weights ?? '').weights.map(({ text }) => text);
    const words = dropTags(prompt).text;
    const areWeightsRead = engine === 'sdxl' && job.compel_enabled !== false;
    if ((areWeightsRead ? plainText(parsePrompt(words)) : words).trim() === '')
      return refuse(fields, [
        {
          field: 'prompt',
          rule: 'words',
          message: 'prompt must have words beside weights and what it loads',
        },
      ]);
    const denied =
      denyList?.check(prompt, words, weights, ...phrases, metadata?.conversation_context) ?? null;
    return denied === null
      ? { ok: true, job }
      : refuse(fields, [
          { field: 'prompt', rule: deniedRule, message: "prompt is on the operator's deny list" },
        ]);
  }

  return {
    validatePayload,
    /** A payload from a queue. What cannot be read has no id. */
    validateRead({ value, problem }: PayloadRead, queue: QueueName): PayloadCheck {
      if (problem === undefined) return validatePayload(value, queue);
      const details = [{ field: 'body', rule: 'json', message: problem }];
      return { ok: false, id: null, known: {}, summary: problem, details };
    },
  };
}

const required = new Set(['id', 'type', 'prompt', 'user_id']);

/** What is empty is left out of the payload and of its two groups; the four fields of every job are judged. */
function withoutEmpty(fields: Record<string, unknown>): Record<string, unknown> {
  const filled = (from: object, kept = new Set<string>()) =>
    Object.fromEntries(
      Object.entries(from as Record<string, unknown>).filter(
        ([name, value]) => kept.has(name) || !saysNothing(name, value),
      ),
    );
  const result = filled(fields, required);
  for (const name of ['config', 'metadata']) {
    const group = result[name];
    if (typeof group === 'object' && group !== null && !Array.isArray(group)) result[name] = filled(group);
  }
  return result;
}

/** `JSON.parse` makes an own property of "__proto__": it must never reach code that reads by name. */
function ownFields(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => name !== '__proto__'));
}

/** `config.size` is text; what JSON Schema cannot say of the two numbers in it. */
function checkSize(config: unknown): ErrorDetail[] {
  const size = typeof config === 'object' && config !== null && 'size' in config ? config.size : undefined;
  const sides =
    typeof size === 'string' ? (/^(\d{2,4})[*x](\d{2,4})$/.exec(size)?.slice(1).map(Number) ?? []) : [];
  const refused = (rule: string, what: string) => [
    { field: 'config.size', rule, message: `config.size must have ${what}` },
  ];
  if (sides.some((side) => side > sizeLimits.maximum))
    return refused('maximum', `sides of at most ${sizeLimits.maximum} pixels`);
  if (sides.includes(0)) return refused('minimum', 'sides of more than 0 pixels');
  if (sides.some((side) => side % sizeLimits.multipleOf !== 0))
    return refused('multipleOf', `sides that are multiples of ${sizeLimits.multipleOf}`);
  return [];
}

/** One frame cannot be two pictures. */
function checkEnds(job: ValidJob): ErrorDetail[] {
  const { mode, planned } = resolveWanReferences(job);
  const field = planned[1]?.field;
  return mode === 'both' && field !== undefined && wanFrames(job.type, job.config?.frame_num) === 1
    ? [{ field, rule: 'frames', message: `${field} needs a job of 5 frames or more beside a first frame` }]
    : [];
}

/** Walks level by level: recursion would overflow on just the payloads this is for. */
function nestingOf(value: unknown): number {
  let depth = 0;
  for (let level = [value]; level.length > 0 && depth <= deepestNesting; depth += 1) {
    level = level.flatMap((item): unknown[] =>
      typeof item === 'object' && item !== null ? Object.values(item) : [],
    );
  }
  return depth;
}

function refuse(fields: Record<string, unknown>, details: ErrorDetail[]): PayloadCheck {
  const { id, type, user_id: userId } = fields;
  return {
    ok: false,
    details,
    id: typeof id === 'string' && tellableId.test(id) ? id : null,
    known: { ...(isJobType(type) ? { type } : {}), ...(isUuid(userId) ? { userId } : {}) },
    summary: details.map(({ message }) => message).join('; '),
  };
}

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
