import type { FastifyRequest } from 'fastify';
import type { OpenApiDocument, Schema } from '../contract/document.js';
import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { iso } from '../lib/units.js';
import { errors } from '../lib/errors.js';
import type { Caller } from '../plugins/api-keys.js';
import { sessionCookie } from '../plugins/auth.js';
import { csrfTokenOf } from '../plugins/tokens.js';
import { catalogue, jobTypes } from '../services/catalogue.js';
import { maxWeights } from '../services/jobs/compel-weights.js';
import type { EngineStatus } from '../services/engines/engine-status.js';
import type { World } from '../services/models/model-folders.js';
import type { RouteContext } from './context.js';

type Capabilities = components['schemas']['Capabilities'];
type Session = components['schemas']['Session'];

export function serviceRoutes({ registry, facts, document }: RouteContext): Handlers {
  return {
    getService: (request, reply) =>
      reply.sendConsole(request) ?? {
        service: 'ourvidz-worker',
        description: document.info.summary,
        worker_version: facts.version,
        links: {
          docs: '/docs',
          health: '/health',
          ready: '/ready',
          capabilities: '/capabilities',
          jobs: '/jobs',
          enhance: '/enhance',
        },
      },

    getConsoleFile: ({ params: { file } }, reply) => reply.sendConsoleFile(file),

    getMetrics: async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  };
}

const usualTokenSeconds = 900;

/** What pages hold in place of a key: tokens and sessions. */
export function signInRoutes({ keys }: RouteContext): Handlers {
  const { sessions } = keys;
  return {
    createToken(request, reply) {
      const { user_id: userId, scopes, expires_in: seconds = usualTokenSeconds } = request.body;
      const expiresAt = Math.floor(Date.now() / 1000) + seconds;
      const token = keys.issue(callerOf(request), { userId: userId.toLowerCase(), scopes, expiresAt });
      reply.code(201).header('cache-control', 'no-store');
      return { token, user_id: userId, scopes, expires_in: seconds, expires_at: isoTime(expiresAt) };
    },

    createSession(request, reply) {
      const caller = callerOf(request);
      const { session, expiresAt } = sessions.begin(caller);
      reply
        .code(201)
        .setCookie(sessionCookie(request), session, {
          ...cookie(request),
          expires: new Date(expiresAt * 1000),
        });
      return sessionView({ ...caller, expiresAt }, session);
    },

    getSession(request, reply) {
      reply.header('cache-control', 'no-store');
      return sessionView(callerOf(request), request.session ?? null);
    },

    deleteSession(request, reply) {
      if (request.session) sessions.end(request.session);
      return reply.code(204).clearCookie(sessionCookie(request), cookie(request)).send();
    },

    createLoginLink(request, reply) {
      const { code, seconds } = sessions.issueCode(callerOf(request));
      reply.code(201).header('cache-control', 'no-store');
      // Behind the #: what stands there is sent to nobody and written into no log.
      return { link: `/#login=${code}`, expires_in: seconds };
    },
  };
}

const cookie = ({ protocol }: FastifyRequest) =>
  ({ path: '/', httpOnly: true, sameSite: 'strict', secure: protocol === 'https' }) as const;

function sessionView({ name, scopes, userId, expiresAt }: Caller, session: string | null): Session {
  return {
    caller: name,
    scopes: [...scopes],
    user_id: userId ?? null,
    csrf_token: session === null ? null : csrfTokenOf(session),
    expires_at: expiresAt === undefined ? null : isoTime(expiresAt),
  };
}

function callerOf({ caller }: FastifyRequest): Caller {
  if (!caller) throw errors.unauthorized();
  return caller;
}

const isoTime = (seconds: number) => new Date(seconds * 1000).toISOString();

export function capabilitiesRoutes({ services, document, facts }: RouteContext): Handlers {
  const limits = readLimits(document, facts);

  return {
    getWorkerHistory: () => ({
      samples: services.monitor
        .history()
        .map((one) => ({
          at: iso(one.atMs),
          waiting: one.waiting,
          running: one.running,
          finished: one.finished,
          failed: one.failed,
          service_bytes: one.serviceBytes,
          gpu_bytes: one.gpuBytes,
          gpu_utilization: one.gpuUtilization,
        })),
    }),

    getCapabilities(): Capabilities {
      const statuses = services.engines.statuses();
      const noVideo = services.capabilities.whyNot('video_fast');
      const has = (kind: EngineStatus['kind']) => services.engines.has(kind);
      return {
        worker_version: facts.version,
        queue: services.store.kind,
        storage: services.storage.kind,
        limits,
        job_types: Object.fromEntries(
          jobTypes.map((type): [string, Capabilities['job_types'][string]] => {
            const {
              queue,
              engine,
              output,
              steps,
              guidanceScale,
              imageCounts,
              enhanced,
              bucket,
              expectedSeconds,
            } = catalogue[type];
            return [
              type,
              {
                queue,
                engine,
                available: services.capabilities.whyNot(type) === null,
                output,
                steps,
                guidance_scale: guidanceScale,
                scheduler: facts.schedulers[engine],
                image_counts: [...imageCounts],
                enhanced,
                bucket,
                expected_seconds: [...expectedSeconds],
              },
            ];
          }),
        ),
        engines: Object.fromEntries(
          statuses.map((status) => [
            status.kind,
            {
              ...engineView(status, has(status.kind)),
              ...worldView(status.kind, services.worlds[status.kind]),
            },
          ]),
        ),
        features_off: [
          ...statuses
            .filter(({ kind }) => !has(kind))
            .map(({ kind, reason }) => ({ feature: kind, reason: reason ?? 'it is not configured' })),
          ...(has('wan') && noVideo !== null ? [{ feature: 'video', reason: noVideo }] : []),
          ...facts.featuresOff,
        ],
        templates: services.enhancement.templates(),
      };
    },
  };
}

function engineView(
  { state, reason, loaded }: EngineStatus,
  available: boolean,
): Capabilities['engines'][string] {
  return {
    available,
    state,
    device: loaded?.device ?? null,
    model: loaded?.model.name ?? null,
    features: loaded?.model.features ?? [],
    device_notes: loaded?.deviceNotes ?? [],
    ...(reason === null ? {} : { reason }),
  };
}

function worldView(
  kind: EngineStatus['kind'],
  world: World | undefined,
): Pick<Capabilities['engines'][string], 'world'> {
  if (world === undefined) return {};
  const { grammar: _grammar, quality: _quality, ...words } = world.words;
  const cure = kind === 'sdxl' ? 'ourvidz models pull sdxl' : 'ourvidz models pull wan2.1-t2v-1.3b';
  return {
    world: {
      sentence: `This demo model only draws ${world.draws}; for real ones see "${cure}" and docs/models.md.`,
      examples: [...world.examples],
      words: [...new Set(Object.values(words).flat())],
      native_size: world.size,
      ...(world.frames === undefined ? {} : { native_frames: world.frames }),
    },
  };
}

/** Limits are stated once, in the schemas that enforce them. */
function readLimits(
  document: OpenApiDocument,
  { bodyLimitBytes, maxWaitingJobs }: RouteContext['facts'],
): Capabilities['limits'] {
  const schemas = document.components.schemas;
  const range = (schema: Schema) => ({
    minimum: schema['minimum'] as number,
    maximum: schema['maximum'] as number,
    ...(schema['multipleOf'] === undefined ? {} : { multiple_of: schema['multipleOf'] as number }),
  });
  const configOf = (name: string) =>
    ((schemas[name]?.['properties'] as Record<string, Schema>)['config']?.['properties'] ?? {}) as Record<
      string,
      Schema
    >;
  const sdxl = configOf('SdxlJob');
  return {
    prompt_characters: schemas['Prompt']?.['maxLength'] as number,
    width_pixels: range(sdxl['width'] ?? {}),
    height_pixels: range(sdxl['height'] ?? {}),
    frames: range(configOf('WanJob')['frame_num'] ?? {}),
    body_bytes: bodyLimitBytes,
    compel_weights: maxWeights,
    waiting_jobs: maxWaitingJobs,
  };
}
