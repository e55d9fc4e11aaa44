import { randomUUID } from 'node:crypto';
import cookie from '@fastify/cookie';
import cors, { type FastifyCorsOptions } from '@fastify/cors';
import fastifyStatic from '@fastify/static';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import type { Registry } from 'prom-client';
import type { Config } from './config.js';
import { createContract } from './contract/routes.js';
import type { KeyRing } from './plugins/api-keys.js';
import { authPlugin } from './plugins/auth.js';
import { answerClientError, errorsPlugin, renderError } from './plugins/errors.js';
import { jsonBodyPlugin } from './plugins/json-body.js';
import { auditPlugin, metricsPlugin, requestLogPlugin } from './plugins/observability.js';
import { queueConsumerPlugin, statusMonitorPlugin, urlRegistrationPlugin } from './plugins/background.js';
import { consolePlugin, docsPlugin } from './plugins/pages.js';
import { createDisconnectSignals, type RouteContext, type ServiceFacts } from './routes/context.js';
import { enhanceRoutes, testCompelRoutes } from './routes/enhance.js';
import { healthRoutes } from './routes/health.js';
import { jobRoutes } from './routes/jobs.js';
import { operatorRoutes } from './routes/operators.js';
import { assetRoutes, referenceRoutes, takeStreams } from './routes/references.js';
import { capabilitiesRoutes, serviceRoutes, signInRoutes } from './routes/service.js';
import { workerRoutes } from './routes/worker.js';
import type { Services } from './services/index.js';
import { largestPayloadBytes } from './services/queue/read-payload.js';

const failuresPerMinute = 20;

export interface AppOptions {
  config: Pick<
    Config,
    | 'corsOrigins'
    | 'trustProxy'
    | 'rateLimit'
    | 'maxWaitingJobs'
    | 'shutdownGraceSeconds'
    | 'podId'
    | 'supabaseUrl'
  >;
  keys: KeyRing;
  services: Services;
  registry: Registry;
  log: FastifyBaseLogger;
  facts: Pick<ServiceFacts, 'version' | 'workerId' | 'featuresOff' | 'schedulers' | 'compel'>;
}

/**
 * The HTTP side of the service: what is registered first is there for everything after it. Neither listens
 * nor starts jobs.
 */
export async function buildApp({
  config,
  keys,
  services,
  registry,
  log,
  facts,
}: AppOptions): Promise<FastifyInstance> {
  const { trustProxy: proxies } = config;
  const app: FastifyInstance = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: ({ headers }) => acceptedId(headers['x-request-id']) ?? randomUUID(),
    bodyLimit: largestPayloadBytes,
    trustProxy: typeof proxies === 'number' ? (_address, hop) => hop < proxies : proxies,
    requestTimeout: 30_000,
    keepAliveTimeout: 65_000,
    forceCloseConnections: 'idle',
    // Callers append "/health" to an address that ends in a slash.
    routerOptions: { maxParamLength: 300, ignoreDuplicateSlashes: true, ignoreTrailingSlash: true },
    // Both in the shape of every other answer: errorsPlugin.
    return503OnClosing: false,
    http: { requireHostHeader: false },
    clientErrorHandler: answerClientError,
    frameworkErrors: (error, request, reply) => {
      renderError(error, request, reply, app);
    },
  });
  const contract = createContract();
  contract.requireCompleteness(app, { served: [{ operationId: 'getDocs', below: '/docs' }] });
  const context: RouteContext = {
    services,
    keys,
    registry,
    document: contract.document,
    disconnect: createDisconnectSignals(app),
    facts: { ...facts, bodyLimitBytes: largestPayloadBytes, maxWaitingJobs: config.maxWaitingJobs },
  };

  await app.register(requestLogPlugin);
  if (config.corsOrigins.length > 0) await app.register(cors, corsOptions(config.corsOrigins));
  await app.register(errorsPlugin, { contract });
  await app.register(jsonBodyPlugin);
  await app.register(cookie);
  await app.register(metricsPlugin, { registry });
  await app.register(statusMonitorPlugin, { monitor: services.monitor });
  await app.register(queueConsumerPlugin, { services, graceMs: config.shutdownGraceSeconds * 1000 });
  // Without a pod nobody asked for it: a local service has nothing to say about where it is.
  if (config.podId !== undefined || config.supabaseUrl !== undefined)
    await app.register(urlRegistrationPlugin, { registration: services.registration });

  await app.register(fastifyStatic, { serve: false });
  await app.register(consolePlugin, { storageUrl: config.supabaseUrl });
  contract.register(app, 'open', { ...healthRoutes(context), ...serviceRoutes(context) });
  await app.register(docsPlugin, { document: contract.document });

  await app.register(async (scope) => {
    await scope.register(authPlugin, {
      authenticate: (credential) => keys.find(credential),
      sessions: keys.sessions,
      failuresPerMinute: config.rateLimit ? failuresPerMinute : null,
    });
    await scope.register(auditPlugin);
    contract.register(scope, 'protected', {
      ...jobRoutes(context),
      ...assetRoutes(context),
      ...enhanceRoutes(context),
      ...testCompelRoutes(context),
      ...workerRoutes(context),
      ...operatorRoutes(context),
      ...capabilitiesRoutes(context),
      ...signInRoutes(context),
    });
    await scope.register(async (forms) => {
      takeStreams(forms);
      contract.register(forms, 'protected', referenceRoutes(context));
    });
  });
  return app;
}

/**
 * What pages of other origins may send and read. Their cookies are not looked at, but a page that sends some
 * along is not refused for it; with `*` it is.
 */
function corsOptions(corsOrigins: readonly string[]): FastifyCorsOptions {
  const any = corsOrigins.includes('*');
  return {
    origin: any ? '*' : [...corsOrigins],
    credentials: !any,
    methods: ['GET', 'HEAD', 'POST', 'DELETE'],
    allowedHeaders: 'authorization content-type idempotency-key last-event-id range x-request-id'.split(' '),
    exposedHeaders: 'content-range location retry-after x-request-id'.split(' '),
    maxAge: 600,
    strictPreflight: false,
  };
}

/** A caller's own id is kept when it cannot disturb a log line. */
function acceptedId(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' && /^[\w.:-]{1,64}$/.test(header) ? header : undefined;
}
