import { type Capabilities, type Job, ownUserId } from '../api.js';
import { createKeptCell } from '../cell.js';
import { isVideoType } from '../format.js';

/** What a picture or a video goes by. */
export interface Reference {
  /** As a job names it: what `POST /references` answered, or `asset:JOB/N`. */
  source: string;
  role: 'picture' | 'first' | 'last';
  /** Address of a small picture of it. */
  shown: string;
  /** Whose it is: only their jobs may use it. */
  userId: string;
}

export interface Draft {
  type: string;
  prompt: string;
  negative: string;
  /** null: what the model was made for. */
  size: { width: number; height: number } | null;
  frames: number | null;
  /** Empty: another one each time. */
  seed: string;
  count: number;
  reference: Reference | null;
  referenceType: 'style' | 'composition' | 'character';
  strength: number;
  compelWeights: string;
}

export const emptyDraft: Draft = {
  type: 'sdxl_image_fast',
  prompt: '',
  negative: '',
  size: null,
  frames: null,
  seed: '',
  count: 1,
  reference: null,
  referenceType: 'composition',
  strength: 0.6,
  compelWeights: '',
};

export const draft = createKeptCell<Draft>('draft', emptyDraft);
export const change = (fields: Partial<Draft>) => draft.set({ ...draft.get(), ...fields });

export const isSdxl = (type: string) => type.startsWith('sdxl');
export const anySeed = () => crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;

/** The body of `POST /jobs`. */
export function payloadOf(draft: Draft) {
  const { type, prompt, reference, size } = draft;
  const seed = draft.seed.trim() === '' ? anySeed() : Number(draft.seed);
  const source = (role: Reference['role']) => (reference?.role === role ? reference.source : undefined);
  const config = isSdxl(type)
    ? {
        num_images: draft.count,
        seed,
        width: size?.width,
        height: size?.height,
        negative_prompt: draft.negative.trim() || undefined,
      }
    : {
        seed,
        size: size === null ? undefined : `${size.width}*${size.height}`,
        frame_num: isVideoType(type) ? (draft.frames ?? undefined) : undefined,
        first_frame: source('first'),
        last_frame: source('last'),
      };
  const metadata =
    reference === null
      ? {}
      : {
          reference_image_url: source('picture'),
          reference_type: isSdxl(type) ? draft.referenceType : undefined,
          reference_strength: draft.strength,
        };
  const weights = isSdxl(type) ? draft.compelWeights.trim() : '';
  return {
    type,
    prompt,
    user_id: reference?.userId ?? ownUserId(),
    ...(weights === '' ? {} : { compel_enabled: true, compel_weights: weights }),
    config: Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined)),
    metadata: Object.fromEntries(Object.entries(metadata).filter(([, value]) => value !== undefined)),
  };
}

const text = (value: unknown) => (typeof value === 'string' ? value : '');
const fields = (value: unknown) =>
  typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
const number = (value: unknown) => (typeof value === 'number' ? value : null);

/** A job's settings, to draw it again or another like it. */
export function draftOf(job: Job): Draft {
  const { request = {}, metadata } = job;
  const config = fields(request['config']);
  const asked = fields(request['metadata'] ?? metadata['request']);
  const [width, height] = text(config['size']).split(/[*x]/).map(Number);
  const size = config['size'] === undefined ? [config['width'], config['height']] : [width, height];
  const [first, last] = [text(config['first_frame']), text(config['last_frame'])];
  const source = first || last || text(config['image']) || text(asked['reference_image_url']);
  return {
    ...emptyDraft,
    type: job.type,
    prompt: promptOf(job),
    negative: text(config['negative_prompt']),
    size:
      number(size[0]) === null || number(size[1]) === null
        ? null
        : { width: size[0] as number, height: size[1] as number },
    frames: number(config['frame_num']),
    seed: String(number(metadata['seed']) ?? number(config['seed']) ?? ''),
    count: number(config['num_images']) ?? Math.max(1, isSdxl(job.type) ? job.assets.length : 1),
    compelWeights: request['compel_enabled'] === true ? text(request['compel_weights']) : '',
    strength: number(asked['reference_strength']) ?? emptyDraft.strength,
    referenceType: (asked['reference_type'] as Draft['referenceType'] | null) ?? emptyDraft.referenceType,
    reference:
      source === ''
        ? null
        : {
            source,
            role: first ? 'first' : last ? 'last' : 'picture',
            shown: shownAddress(source),
            userId: job.user_id,
          },
  };
}

export const promptOf = (job: Job): string =>
  text(job.request?.['prompt']) || job.prompt || text(job.metadata['original_prompt']);

/** Only what this service serves can be shown here. */
const shownAddress = (source: string) => (source.startsWith('/assets/') ? source : '');

/** Job types that can be asked for, the kind that is drawn first. */
export function typesFor(capabilities: Capabilities | undefined, output: 'image' | 'video') {
  return Object.entries(capabilities?.job_types ?? {})
    .filter(([, facts]) => facts.output === output)
    .map(([type, { available }]) => ({ type, available }));
}

/** What a small model says it knows; absent for one that knows what people ask for. */
export type World = NonNullable<Capabilities['engines'][string]['world']>;

export function worldOf(capabilities: Capabilities | undefined, type: string): World | null {
  return capabilities?.engines[isSdxl(type) ? 'sdxl' : 'wan']?.world ?? null;
}
