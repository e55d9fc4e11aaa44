import { pictureExtensions } from '../inference/generation.js';

/**
 * The ten job types, stated once (spec section 2): queue, engine, defaults, limits, bucket.
 * Everything that needs to know something of a job type reads this table.
 */

export const queueNames = ['sdxl_queue', 'wan_queue'] as const;
export type QueueName = (typeof queueNames)[number];

export const jobTypes = [
  'sdxl_image_fast',
  'sdxl_image_high',
  'image_fast',
  'image_high',
  'video_fast',
  'video_high',
  'image7b_fast_enhanced',
  'image7b_high_enhanced',
  'video7b_fast_enhanced',
  'video7b_high_enhanced',
] as const;
export type JobType = (typeof jobTypes)[number];

export interface JobTypeSpec {
  queue: QueueName;
  engine: 'sdxl' | 'wan';
  steps: number;
  guidanceScale: number;
  output: 'image' | 'video';
  /** Seconds one job is expected to take on an RTX 6000 Ada, lower and upper bound. */
  expectedSeconds: readonly [number, number];
  /** Numbers of images a job may ask for. */
  imageCounts: readonly number[];
  /** Whether Qwen rewrites the prompt before generation. */
  enhanced: boolean;
  /** Storage bucket; each job type has its own of the same name. */
  bucket: string;
}

const sdxl = {
  queue: 'sdxl_queue',
  engine: 'sdxl',
  output: 'image',
  imageCounts: [1, 3, 6],
  enhanced: false,
  expectedSeconds: [3, 8],
} as const;
const wan = { queue: 'wan_queue', engine: 'wan', imageCounts: [1] } as const;
const fast = { steps: 25, guidanceScale: 6.5 } as const;
const high = { steps: 50, guidanceScale: 7.5 } as const;

export const catalogue: Readonly<Record<JobType, JobTypeSpec>> = {
  sdxl_image_fast: { ...sdxl, steps: 15, guidanceScale: 6.0, bucket: 'sdxl_image_fast' },
  sdxl_image_high: { ...sdxl, steps: 25, guidanceScale: 7.5, bucket: 'sdxl_image_high' },
  image_fast: {
    ...wan,
    ...fast,
    output: 'image',
    enhanced: false,
    expectedSeconds: [25, 40],
    bucket: 'image_fast',
  },
  image_high: {
    ...wan,
    ...high,
    output: 'image',
    enhanced: false,
    expectedSeconds: [40, 100],
    bucket: 'image_high',
  },
  video_fast: {
    ...wan,
    ...fast,
    output: 'video',
    enhanced: false,
    expectedSeconds: [135, 180],
    bucket: 'video_fast',
  },
  video_high: {
    ...wan,
    ...high,
    output: 'video',
    enhanced: false,
    expectedSeconds: [180, 240],
    bucket: 'video_high',
  },
  image7b_fast_enhanced: {
    ...wan,
    ...fast,
    output: 'image',
    enhanced: true,
    expectedSeconds: [85, 100],
    bucket: 'image7b_fast_enhanced',
  },
  image7b_high_enhanced: {
    ...wan,
    ...high,
    output: 'image',
    enhanced: true,
    expectedSeconds: [100, 240],
    bucket: 'image7b_high_enhanced',
  },
  video7b_fast_enhanced: {
    ...wan,
    ...fast,
    output: 'video',
    enhanced: true,
    expectedSeconds: [195, 240],
    bucket: 'video7b_fast_enhanced',
  },
  video7b_high_enhanced: {
    ...wan,
    ...high,
    output: 'video',
    enhanced: true,
    expectedSeconds: [240, 480],
    bucket: 'video7b_high_enhanced',
  },
};

export const isQueueName = (value: unknown): value is QueueName =>
  queueNames.some((queue) => queue === value);

export function isJobType(value: unknown): value is JobType {
  return typeof value === 'string' && Object.hasOwn(catalogue, value);
}

export function jobTypesOf(queue: QueueName): JobType[] {
  return jobTypes.filter((type) => catalogue[type].queue === queue);
}

/** What is wrong with a type that is none: the ones there are, each with its queue. */
export function unknownType(type: unknown): string {
  const known = queueNames.map((queue) => `${jobTypesOf(queue).join(', ')} on ${queue}`);
  return `type must be one of ${known.join('; ')}${nearest(type)}`;
}

/** The types somebody may have meant, each with its queue: `sdxl_video` is no type, `video_fast` is. */
function nearest(type: unknown): string {
  if (typeof type !== 'string' || !/^[\w-]{1,60}$/.test(type)) return '';
  const words = type.toLowerCase().split(/[_-]+/);
  const output = words.some((word) => word.startsWith('video')) ? 'video' : 'image';
  const likeness = (part: string) =>
    words.includes(part) ? 2 : words.some((word) => word.startsWith(part) || part.startsWith(word)) ? 1 : 0;
  const shared = (known: JobType) => known.split('_').reduce<number>((sum, part) => sum + likeness(part), 0);
  const candidates = jobTypes.filter((known) => catalogue[known].output === output);
  const most = Math.max(...candidates.map(shared));
  if (most === 0) return '';
  const near = candidates.filter((known) => shared(known) === most);
  const queues = [...new Set(near.map((known) => catalogue[known].queue))].join(' or ');
  return `; nearest to ${type} are ${near.join(', ')} on ${queues}`;
}

/** Full path of a job's n-th asset: the same on every attempt, so that an upload can be repeated. */
export function assetPath(job: { user_id: string; id: string }, index: number, extension: string): string {
  return `${job.user_id}/${job.id}/${index}.${extension}`;
}

/** Beside the video it is the still of. */
export function posterPath(job: { user_id: string; id: string }, extension: string): string {
  return `${job.user_id}/${job.id}/0-poster.${extension}`;
}

/**
 * Every path an attempt at the job may have stored something under, whatever the number of its pictures and
 * their format, which may change between two attempts.
 */
export function everyPath(job: { user_id: string; id: string }, type: JobType): string[] {
  const { output, imageCounts } = catalogue[type];
  const extensions = Object.values(pictureExtensions);
  if (output === 'video')
    return [assetPath(job, 0, 'mp4'), ...extensions.map((extension) => posterPath(job, extension))];
  return Array.from({ length: Math.max(...imageCounts) }, (_, index) =>
    extensions.map((extension) => assetPath(job, index, extension)),
  ).flat();
}

/** Of a video that does not say, nor its model folder; WAN makes 81 of it, about five seconds. */
const defaultFrameNum = 83;
export const framesPerSecond = 16;

/**
 * Frames a job yields: one for pictures, for videos the largest 4n + 1 within what was asked for (the causal
 * VAE makes one frame, then four at a time).
 */
export function wanFrames(type: JobType, frameNum: number | null | undefined): number {
  if (catalogue[type].output === 'image') return 1;
  return 4 * Math.floor(((frameNum ?? defaultFrameNum) - 1) / 4) + 1;
}

/** Of a reference whose job names no strength. */
export const defaultReferenceStrength = 0.85;
