/**
 * The process: reads the environment, builds the service, listens, and ends with grace. Exit code 1 when it
 * cannot start.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import { buildApp } from './app.js';
import { type Config, ConfigError, readConfig } from './config.js';
import { keepPrivate } from './lib/data-folder.js';
import { readEnvironment } from './lib/environment.js';
import { errorBody, errors } from './lib/errors.js';
import { printable } from './lib/printable.js';
import { within } from './lib/wait.js';
import { openKeyRing } from './plugins/api-keys.js';
import { openTroubleView } from './routes/health.js';
import { createServices } from './services/index.js';
import { FolderInUse } from './services/queue/index.js';
import { reportAfterStart } from './services/operations/validation.js';
import { createLog, startTracing } from './telemetry.js';

/** For what must happen after the jobs' own grace: flushing, ending engine processes. */
const closingMs = 15_000;
/** Of it, for spans that their collector has not taken yet. */
const spansMs = 2000;
/** So often a service whose DATA_DIR is in use looks whether it is free. */
const lookAgainMs = 2000;

// Libraries that read the environment themselves (OpenTelemetry) find what .env says, too.
Object.assign(process.env, readEnvironment());
try {
  await run(readConfig(process.env));
} catch (error) {
  process.stderr.write(`${printable(explain(error))}\n`);
  process.exit(1);
}

async function run(config: Config): Promise<void> {
  const shown = await keepPrivate(config.dataDir);
  const { apiKeysFile: file } = config;
  const apiKey = config.apiKey ?? (file === undefined ? await localApiKey(config.dataDir) : undefined);
  const log = createLog({ ...config, apiKey });
  const keys = await openKeyRing({ apiKey, file, log });
  if (shown.length > 0)
    log.warn(
      { files: shown.slice(0, 10), count: shown.length },
      'files of DATA_DIR stay readable for other users: this user may not change their modes',
    );
  const registry = new Registry();
  const open = () => createServices(config, log, { registry, environment: process.env });
  const services = await open().catch((error: unknown) => {
    if (!(error instanceof FolderInUse)) throw error;
    return standBy(error, open, config, log);
  });
  const tracing = await startTracing(config, services);
  const app = await buildApp({
    config,
    keys,
    services,
    registry,
    log,
    facts: {
      version: services.version,
      workerId: services.workerId,
      schedulers: services.schedulers,
      compel: config.compel,
      featuresOff: featuresOff(config),
    },
  });

  let giveUpReport = () => {};
  // Ends the process itself: at once on a second signal, or when the grace is over.
  closeWithGrace(
    { delay: config.shutdownGraceSeconds * 1000 + closingMs, logger: log },
    async ({ err, signal }) => {
      if (err !== undefined) {
        // A crash is no orderly stop: nothing is handed back, so the attempts that were under way count, and
        // a
        // job that brings services down is given up after as many as any other.
        log.fatal({ err }, 'ending after an error nobody handled');
        return;
      }
      log.info({ signal }, 'stopping');
      giveUpReport();
      await app.close();
      if (tracing !== undefined) await within(spansMs, tracing.stop());
    },
  );

  try {
    await app.listen({ host: config.host, port: config.port });
  } catch (error) {
    await app.close();
    throw error;
  }
  giveUpReport = reportAfterStart({ engines: services.engines, validation: services.validation, log });
}

/**
 * Another service has DATA_DIR: says so to whoever asks, and takes over when that one is gone (a new version that
 * starts before the old one has ended). On the other one's port it ends at once.
 */
async function standBy(
  inUse: FolderInUse,
  open: () => ReturnType<typeof createServices>,
  { host, port }: Config,
  log: Logger,
): Promise<Awaited<ReturnType<typeof createServices>>> {
  const sinceMs = Date.now();
  const door = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0]?.replace(/\/+$/, '');
    const told = openTroubleView({ ...inUse.trouble, sinceMs, nextTryAtMs: Date.now() + lookAgainMs });
    const sentence = `${told.what}: ${told.cause}`;
    const health = {
      status: 'unhealthy',
      qwen_loaded: false,
      timestamp: Date.now() / 1000,
      worker_ready: false,
    };
    const body =
      path === '/health'
        ? health
        : path === '/ready'
          ? { ready: false, reasons: [sentence], troubles: [told] }
          : errorBody(errors.unavailable(`${sentence}. ${told.cure}`), randomUUID());
    response.writeHead(path === '/health' ? 200 : 503, {
      'content-type': 'application/json',
      'retry-after': '2',
    });
    response.end(request.method === 'HEAD' ? undefined : JSON.stringify(body));
  });
  await new Promise<void>((resolve, reject) => {
    door.once('error', (error: NodeJS.ErrnoException) => reject(error.code === 'EADDRINUSE' ? inUse : error));
    door.listen(port, host, resolve);
  });
  const ended = () => process.exit(0);
  process.on('SIGTERM', ended).on('SIGINT', ended);
  const { code, cure } = inUse.trouble;
  log.error({ event: 'trouble', code, cure }, inUse.message);
  for (;;) {
    await sleep(lookAgainMs);
    const services = await open().catch((error: unknown) => {
      if (error instanceof FolderInUse) return null;
      throw error;
    });
    if (services === null) continue;
    door.closeAllConnections();
    await new Promise((resolve) => door.close(resolve));
    process.off('SIGTERM', ended).off('SIGINT', ended);
    log.info({ event: 'trouble_over', code }, 'the other service is gone: taking over');
    return services;
  }
}

/** Without a configured key a local service makes one, keeps it beside its data, and says what it is. */
async function localApiKey(dataDir: string): Promise<string> {
  const file = path.join(dataDir, 'api-key');
  const known = await readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => '',
  );
  const key = known === '' ? randomBytes(32).toString('base64url') : known;
  if (known === '') await writeFile(file, `${key}\n`);
  process.stdout.write(
    `API key of this local service: ${key} (kept in ${file}; set WAN_WORKER_API_KEY to choose one)\n`,
  );
  return key;
}

function featuresOff(config: Config): Array<{ feature: string; reason: string }> {
  return [
    ...(config.callbackUrl === undefined && config.supabaseUrl === undefined
      ? [
          {
            feature: 'callbacks',
            reason: 'neither CALLBACK_URL nor SUPABASE_URL is set; outcomes are shown by GET /jobs/{id}',
          },
        ]
      : []),
    ...(config.metricsUrl === undefined
      ? [{ feature: 'usage_records', reason: 'METRICS_URL is not set' }]
      : []),
    ...(config.podId === undefined && config.publicUrl === undefined && config.publicUrlFile === undefined
      ? [{ feature: 'url_registration', reason: 'RUNPOD_POD_ID is not set' }]
      : config.supabaseUrl === undefined || config.supabaseServiceKey === undefined
        ? [{ feature: 'url_registration', reason: 'SUPABASE_URL or SUPABASE_SERVICE_KEY is not set' }]
        : []),
    ...(config.compel
      ? []
      : [
          {
            feature: 'compel',
            reason: 'COMPEL is off: prompts are taken literally, compel_weights are ignored',
          },
        ]),
    ...(config.enhance ? [] : [{ feature: 'enhancement', reason: 'ENHANCE is off: no prompt is rewritten' }]),
    ...(config.previewEverySteps === 0 ? [{ feature: 'previews', reason: 'PREVIEW_EVERY_STEPS is 0' }] : []),
  ];
}

/** A sentence for whoever started the process; a stack only for what nobody foresaw. */
function explain(error: unknown): string {
  if (error instanceof ConfigError || error instanceof FolderInUse) return error.message;
  const { code, address, port } = error as { code?: string; address?: string; port?: number };
  if (code === 'EADDRINUSE')
    return `Port ${port} of ${address} is taken: stop what listens there, or set PORT (0 picks a free one).`;
  if (code === 'EACCES' && port !== undefined)
    return `Port ${port} may not be opened by this user: set PORT to 1024 or higher.`;
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `HOST is not an address of this machine (${code}).`;
  return error instanceof Error
    ? `The service could not start: ${error.stack ?? error.message}`
    : String(error);
}
