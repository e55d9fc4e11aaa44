/**
 * Type and form of every value the reference's examples have (spec sections 4, 7 and 8), by name. A form that
 * ends in `OrNull` is not known on every machine.
 */
type Form = (value: unknown) => boolean;
export type Forms = { [field: string]: Form | Forms };

const matches =
  (pattern: RegExp): Form =>
  (value) =>
    typeof value === 'string' && pattern.test(value);
export const oneOf =
  (...values: unknown[]): Form =>
  (value) =>
    values.includes(value);
export const orNull =
  (form: Form): Form =>
  (value) =>
    value === null || form(value);

export const number: Form = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
export const integer: Form = (value) => Number.isInteger(value);
export const boolean: Form = (value) => typeof value === 'boolean';
export const text: Form = (value) => typeof value === 'string' && value !== '';
export const texts: Form = (value) => Array.isArray(value) && value.every(text);
export const gigabytes = matches(/^\d+(\.\d)?GB$/);
export const percent = matches(/^\d{1,3}%$/);
export const celsius = matches(/^\d+°C$/);
export const seconds = matches(/^\d+s$/);
export const moment = matches(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$/);
/** As the orchestrator's examples have it: `2025-07-23T18:30:00Z`. */
export const wholeMoment = matches(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
const version = matches(/^\d+\.\d+\.\d+$/);

/** Every field of a `completed` callback's metadata. */
export const completed: Forms = {
  seed: integer,
  generation_time: number,
  num_images: integer,
  compel_enabled: boolean,
  compel_weights: orNull(text),
  compel_success: boolean,
  enhancement_strategy: oneOf('compel', 'fallback', 'none'),
  enhancement_type: oneOf('base', 'chat', 'instruct_chat', null),
  enhancement_success: boolean,
  enhancement_time: number,
  original_prompt: text,
  enhanced_prompt: text,
  final_prompt_type: oneOf('conditioning_tensor', 'string'),
  expected_time: number,
  performance_ratio: number,
  vram_used_gb: orNull(number),
  vram_total_gb: orNull(number),
  vram_utilization: orNull(number),
  reference_mode: text,
  reference_strength: orNull(number),
  worker_version: version,
};
/** The same on a card. */
export const completedOnCard: Forms = {
  ...completed,
  vram_used_gb: number,
  vram_total_gb: number,
  vram_utilization: number,
};
export const failed: Forms = { error_type: text, error_timestamp: moment, worker_version: version };

export const enhanced: Forms = {
  success: oneOf(true),
  enhanced_prompt: text,
  original_prompt: text,
  enhancement_source: oneOf('qwen_base', 'qwen_instruct'),
  processing_time: number,
  model: oneOf('qwen_base', 'qwen_instruct'),
};
export const notEnhanced: Forms = { success: oneOf(false), error: text, enhanced_prompt: text };

const worker: Forms = {
  status: oneOf('active'),
  uptime: number,
  jobs_processed: integer,
  last_job_time: wholeMoment,
  memory_usage: gigabytes,
  error_count: integer,
};
export const workerStatus: Forms = {
  status: oneOf('running'),
  workers: { sdxl: worker, wan: worker },
  system: {
    gpu_memory_total: gigabytes,
    gpu_memory_used: gigabytes,
    gpu_utilization: percent,
    active_jobs: integer,
  },
};
const held: Forms = { memory_allocated: gigabytes, model_loaded: boolean, queue_size: integer };
export const workerResources: Forms = {
  gpu: {
    name: text,
    memory_total: gigabytes,
    memory_used: gigabytes,
    memory_free: gigabytes,
    utilization: percent,
    temperature: celsius,
  },
  workers: { sdxl: held, wan: held },
  queues: { sdxl_queue: integer, wan_queue: integer },
};
export const workerValidation: Forms = {
  status: oneOf('valid', 'invalid'),
  checks: {
    environment_variables: boolean,
    model_paths: boolean,
    gpu_availability: boolean,
    python_dependencies: boolean,
    worker_scripts: boolean,
  },
  details: {
    pytorch_version: matches(/^onnxruntime-node \d/),
    cuda_version: text,
    gpu_memory: gigabytes,
    missing_dependencies: texts,
  },
};
export const workerRestart: Forms = {
  status: oneOf('restarting'),
  worker_id: oneOf('sdxl', 'wan'),
  restart_time: wholeMoment,
  estimated_startup_time: seconds,
};
export const health: Forms = {
  status: oneOf('healthy'),
  qwen_loaded: boolean,
  timestamp: (value) => number(value) && Math.abs(Number(value) - Date.now() / 1000) < 600,
  worker_ready: boolean,
};
export const workerMetrics: Forms = {
  worker_id: text,
  job_type: text,
  generation_time: number,
  vram_used: number,
  success: boolean,
  timestamp: moment,
};
export const completionStatistics: Forms = {
  job_id: text,
  user_id: text,
  job_type: text,
  assets_generated: integer,
  total_size_mb: number,
  completion_timestamp: moment,
};

/** What of a value has another type or form; empty when all of it fits. More fields may stand beside them. */
export function misfits(value: unknown, forms: Forms, at = ''): string[] {
  return Object.entries(forms).flatMap(([field, form]) => {
    const found = (value as Record<string, unknown> | null | undefined)?.[field];
    if (typeof form !== 'function') return misfits(found, form, `${at}${field}.`);
    return form(found) ? [] : [`${at}${field} is ${JSON.stringify(found)}`];
  });
}
