import path from 'node:path';
import { flowSchedulerNames, sdxlSchedulerNames, textDefaults } from './inference/generation.js';
import {
  certificates,
  flag,
  folder,
  integer,
  list,
  oneOf,
  proxies,
  openUrl,
  origins,
  passwordsIn,
  type Read,
  redisUrl,
  Refused,
  text,
  url,
} from './lib/environment.js';
import { projectRoot } from './lib/project.js';
import { isConfidential } from './lib/supabase.js';

/**
 * The environment as one typed, frozen value. Every variable is declared once, with unit, default and rule;
 * `.env.example` lists the same.
 */

type Problem = { variable: string; value: string; rule: string };
interface Setting<T> {
  variable: string;
  secret?: boolean;
  read: Read<T>;
}

const settings = {
  host: { variable: 'HOST', read: text('127.0.0.1') },
  port: { variable: 'PORT', read: integer(7860, 0, 65535) },
  dataDir: { variable: 'DATA_DIR', read: folder('data') },
  cudaDir: { variable: 'CUDA_DIR', read: folder(path.join(projectRoot(), 'runtimes/cuda')) },
  modelsDir: { variable: 'MODELS_DIR', read: text() },
  allowPocketModels: { variable: 'ALLOW_POCKET_MODELS', read: flag(false) },
  apiKey: { variable: 'WAN_WORKER_API_KEY', secret: true, read: text() },
  apiKeysFile: { variable: 'API_KEYS_FILE', read: text() },
  logLevel: {
    variable: 'LOG_LEVEL',
    read: oneOf('info', 'trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
  },
  logPrompts: { variable: 'LOG_PROMPTS', read: flag(false) },
  otlpEndpoint: { variable: 'OTEL_EXPORTER_OTLP_ENDPOINT', read: url('http:', 'https:') },
  otlpHeaders: { variable: 'OTEL_EXPORTER_OTLP_HEADERS', secret: true, read: text() },
  otlpServiceName: { variable: 'OTEL_SERVICE_NAME', read: text('ourvidz-worker') },
  rateLimit: { variable: 'RATE_LIMIT', read: flag(true) },
  corsOrigins: { variable: 'CORS_ORIGINS', read: origins() },
  trustProxy: { variable: 'TRUST_PROXY', read: proxies() },
  publicUrl: { variable: 'PUBLIC_URL', read: openUrl('http:', 'https:') },
  publicUrlFile: { variable: 'PUBLIC_URL_FILE', read: text() },
  redisUrl: { variable: 'REDIS_URL', secret: true, read: redisUrl() },
  redisTlsCa: { variable: 'REDIS_TLS_CA_FILE', read: certificates() },
  upstashUrl: { variable: 'UPSTASH_REDIS_REST_URL', read: openUrl('https:') },
  upstashToken: { variable: 'UPSTASH_REDIS_REST_TOKEN', secret: true, read: text() },
  redisBlockSeconds: { variable: 'REDIS_BLOCK_SECONDS', read: integer(5, 1, 30) },
  supabaseUrl: { variable: 'SUPABASE_URL', read: openUrl('http:', 'https:') },
  supabaseServiceKey: { variable: 'SUPABASE_SERVICE_KEY', secret: true, read: text() },
  supabasePlainHttp: { variable: 'SUPABASE_PLAIN_HTTP', read: flag(false) },
  storage: { variable: 'STORAGE', read: oneOf(undefined, 'folder', 'supabase') },
  assetUrls: { variable: 'ASSET_URLS', read: oneOf('auto', 'auto', 'path', 'public', 'signed') },
  assetUrlSeconds: { variable: 'ASSET_URL_SECONDS', read: integer(604_800, 60, 31_536_000) },
  callbackUrl: { variable: 'CALLBACK_URL', read: url('http:', 'https:') },
  callbackSecret: { variable: 'CALLBACK_SECRET', secret: true, read: text() },
  callbackProgress: { variable: 'CALLBACK_PROGRESS', read: flag(false) },
  metricsUrl: { variable: 'METRICS_URL', read: url('http:', 'https:') },
  referenceRetentionSeconds: {
    variable: 'REFERENCE_RETENTION_SECONDS',
    read: integer(86_400, 60, 2_592_000),
  },
  referenceAllowedHosts: { variable: 'REFERENCE_ALLOWED_HOSTS', read: list() },
  podId: { variable: 'RUNPOD_POD_ID', read: text() },
  ortDevice: { variable: 'ORT_DEVICE', read: oneOf('auto', 'auto', 'cuda', 'webgpu', 'cpu') },
  ortThreads: { variable: 'ORT_THREADS', read: integer(0, 0, 256) },
  gpuMemoryGigabytes: { variable: 'GPU_MEMORY_GB', read: integer(0, 0, 4096) },
  engineRecycleJobs: { variable: 'ENGINE_RECYCLE_JOBS', read: integer(0, 0, 1_000_000) },
  engineRecycleGrowthGigabytes: { variable: 'ENGINE_RECYCLE_GROWTH_GB', read: integer(16, 0, 4096) },
  sdxlLongPrompts: { variable: 'SDXL_LONG_PROMPTS', read: oneOf('truncate', 'truncate', 'chunk') },
  sdxlScheduler: { variable: 'SDXL_SCHEDULER', read: oneOf('auto', 'auto', ...sdxlSchedulerNames) },
  imageFormat: { variable: 'IMAGE_FORMAT', read: oneOf('png', 'png', 'webp', 'jpeg') },
  wanScheduler: { variable: 'WAN_SCHEDULER', read: oneOf('auto', 'auto', ...flowSchedulerNames) },
  videoCrf: { variable: 'VIDEO_CRF', read: integer(18, 0, 51) },
  ffmpeg: { variable: 'FFMPEG', read: text() },
  previewEverySteps: { variable: 'PREVIEW_EVERY_STEPS', read: integer(5, 0, 100) },
  compel: { variable: 'COMPEL', read: flag(true) },
  enhance: { variable: 'ENHANCE', read: flag(true) },
  promptsDir: { variable: 'PROMPTS_DIR', read: text() },
  denyListFile: { variable: 'DENY_LIST_FILE', read: text() },
  enhanceTimeoutSeconds: { variable: 'ENHANCE_TIMEOUT_SECONDS', read: integer(120, 1, 3600) },
  enhanceMaxAttempts: { variable: 'ENHANCE_MAX_ATTEMPTS', read: integer(2, 1, 10) },
  enhanceConcurrency: { variable: 'ENHANCE_CONCURRENCY', read: integer(textDefaults.sequences, 1, 64) },
  enhanceContextTokens: {
    variable: 'ENHANCE_CONTEXT_TOKENS',
    read: integer(textDefaults.contextTokens, 512, 131_072),
  },
  enhanceThreads: { variable: 'ENHANCE_THREADS', read: integer(0, 0, 256) },
  enhanceMaxWaiting: { variable: 'ENHANCE_MAX_WAITING', read: integer(64, 0, 10_000) },
  enhanceIdleSeconds: { variable: 'ENHANCE_IDLE_SECONDS', read: integer(300, 0, 86_400) },
  enhanceKeepWordsPercent: { variable: 'ENHANCE_KEEP_WORDS_PERCENT', read: integer(100, 0, 100) },
  enhanceSessionSeconds: { variable: 'ENHANCE_SESSION_SECONDS', read: integer(3600, 1, 2_592_000) },
  enhanceSessionTurns: { variable: 'ENHANCE_SESSION_TURNS', read: integer(20, 1, 200) },
  enhanceMaxSessions: { variable: 'ENHANCE_MAX_SESSIONS', read: integer(10_000, 1, 10_000_000) },
  autoNegative: { variable: 'AUTO_NEGATIVE_PROMPT', read: oneOf('auto', 'auto', 'on', 'off') },
  maxAttempts: { variable: 'MAX_ATTEMPTS', read: integer(3, 1, 20) },
  leaseSeconds: { variable: 'LEASE_SECONDS', read: integer(30, 2, 3600) },
  maxWaitingJobs: { variable: 'MAX_WAITING_JOBS', read: integer(10_000, 0, 10_000_000) },
  jobRetentionSeconds: { variable: 'JOB_RETENTION_SECONDS', read: integer(604_800, 60, 31_536_000) },
  shutdownGraceSeconds: { variable: 'SHUTDOWN_GRACE_SECONDS', read: integer(30, 0, 3600) },
} satisfies Record<string, Setting<unknown>>;

type Settings = { [K in keyof typeof settings]: ReturnType<(typeof settings)[K]['read']> };
type Filled =
  | 'host'
  | 'otlpServiceName'
  | 'logLevel'
  | 'assetUrls'
  | 'ortDevice'
  | 'sdxlScheduler'
  | 'wanScheduler'
  | 'imageFormat'
  | 'autoNegative';
export type Config = Readonly<Omit<Settings, Filled> & { [K in Filled]: NonNullable<Settings[K]> }>;

/** All problems of an environment in one error, ready for a terminal. */
export class ConfigError extends Error {
  constructor(readonly problems: readonly Problem[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    const lines = problems.map(
      ({ variable, value, rule }) => `  ${variable} is ${value}; it must be ${rule}`,
    );
    super([`The environment has ${count}:`, ...lines].join('\n'));
    this.name = 'ConfigError';
  }
}

/** @throws ConfigError with every problem at once; secrets are masked */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const problems: Problem[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, setting] of Object.entries(settings) as Array<[string, Setting<unknown>]>) {
    const given = environment[setting.variable]?.trim();
    const value = given === '' ? undefined : given;
    try {
      values[name] = setting.read(value);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problems.push({
        variable: setting.variable,
        // What cannot be read as an address may hold a password all the same, with any character in it.
        value:
          setting.secret === true
            ? mask(value ?? '')
            : JSON.stringify(value?.replace(/:\/\/.*@/s, '://***@')),
        rule: error.message,
      });
    }
  }
  const config = values as unknown as Config;
  problems.push(...combinations(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

function combinations(config: Config): Problem[] {
  const problems: Problem[] = [];
  const demand = (variable: string, rule: string) => {
    problems.push({ variable, value: 'not set', rule });
  };
  const shared =
    config.redisUrl !== undefined || config.upstashUrl !== undefined || config.supabaseUrl !== undefined;
  if (shared && config.apiKey === undefined && config.apiKeysFile === undefined)
    demand(
      'WAN_WORKER_API_KEY',
      'set (or API_KEYS_FILE) when Redis or Supabase is: there is no built-in key',
    );
  if (config.apiKey !== undefined && config.apiKey.length < 8)
    problems.push({
      variable: 'WAN_WORKER_API_KEY',
      value: mask(config.apiKey),
      rule: 'at least 8 characters long',
    });
  if (config.supabaseUrl !== undefined && config.supabaseServiceKey === undefined)
    demand('SUPABASE_SERVICE_KEY', 'set together with SUPABASE_URL');
  if (config.supabaseUrl !== undefined && !isConfidential(config.supabaseUrl) && !config.supabasePlainHttp)
    problems.push({
      variable: 'SUPABASE_URL',
      value: JSON.stringify(config.supabaseUrl),
      rule:
        'an https address, because the key is sent there; ' +
        'SUPABASE_PLAIN_HTTP=on allows http, for a network that nobody else listens to',
    });
  if (config.storage === 'supabase' && config.supabaseUrl === undefined)
    demand('SUPABASE_URL', 'set when STORAGE is supabase');
  if (config.upstashUrl !== undefined && config.upstashToken === undefined && config.redisUrl === undefined)
    demand('UPSTASH_REDIS_REST_TOKEN', 'set together with UPSTASH_REDIS_REST_URL');
  if (config.redisTlsCa !== undefined && redisUrlOf(config)?.startsWith('rediss') !== true)
    problems.push({
      variable: 'REDIS_TLS_CA_FILE',
      value: 'set',
      rule: 'used with an address of Redis over TLS (rediss://)',
    });
  if (
    config.callbackSecret !== undefined &&
    !/^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/.test(config.callbackSecret)
  ) {
    problems.push({
      variable: 'CALLBACK_SECRET',
      value: mask(config.callbackSecret),
      rule: '"whsec_" and 24 to 64 random bytes in base64',
    });
  }
  return problems;
}

function mask(secret: string): string {
  return `${'*'.repeat(6)} (${secret.length} characters)`;
}

/**
 * Every secret of a configuration, for what must never show one; the passwords of addresses on their own,
 * too.
 */
export function secretsOf(config: Config): string[] {
  const texts = (Object.entries(settings) as Array<[keyof Config, Setting<unknown>]>)
    .map(([name, { secret }]) => ({ secret, value: config[name] }))
    .filter(
      (entry): entry is { secret: boolean | undefined; value: string } => typeof entry.value === 'string',
    );
  const passwords = texts.flatMap(({ value }) => passwordsIn(value));
  return [...texts.filter(({ secret }) => secret === true).map(({ value }) => value), ...passwords].filter(
    (secret) => secret.length >= 6,
  );
}

/** Redis over TLS from Upstash's REST pair: its token is the password of the same host. */
export function redisUrlOf(config: Config): string | undefined {
  if (config.redisUrl !== undefined) return config.redisUrl;
  if (config.upstashUrl === undefined || config.upstashToken === undefined) return undefined;
  return `rediss://default:${encodeURIComponent(config.upstashToken)}@${new URL(config.upstashUrl).hostname}:6379`;
}

/** Where callbacks go; none configured: they are kept and shown by the service. */
export function callbackUrlOf(config: Pick<Config, 'callbackUrl' | 'supabaseUrl'>): string | undefined {
  return (
    config.callbackUrl ??
    (config.supabaseUrl === undefined ? undefined : `${config.supabaseUrl}/functions/v1/job-callback`)
  );
}

/** Every variable there is, for the check that `.env.example` lists the same ones. */
export const variables: readonly string[] = Object.values(settings).map(({ variable }) => variable);

export const promptsDirOf = (config: Config): string =>
  config.promptsDir ?? path.join(projectRoot(), 'prompts');
