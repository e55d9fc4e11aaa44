import type { OpenApiDocument, Schema } from '../contract/document.js';
import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import { catalogue, jobTypes } from '../services/catalogue.js';
import { maxWeights } from '../services/jobs/compel-weights.js';
import type { EngineStatus } from '../services/engines/engine-status.js';
import type { RouteContext } from './context.js';

type Capabilities = components['schemas']['Capabilities'];

export function serviceRoutes({ registry, facts, document }: RouteContext): Handlers {
  return {
    getService: () => ({
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
    }),

    getMetrics: async (_request, reply) => reply.type(registry.contentType).send(await registry.metrics()),
  };
}

const usualTokenSeconds = 900;

export function tokenRoutes({ keys }: RouteContext): Handlers {
  return {
    createToken(request, reply) {
      const { user_id: userId, scopes, expires_in: seconds = usualTokenSeconds } = request.body;
      const expiresAt = Math.floor(Date.now() / 1000) + seconds;
      if (!request.caller) throw errors.unauthorized();
      const token = keys.issue(request.caller, { userId: userId.toLowerCase(), scopes, expiresAt });
      reply.code(201).header('cache-control', 'no-store');
      return {
        token,
        user_id: userId,
        scopes,
        expires_in: seconds,
        expires_at: new Date(expiresAt * 1000).toISOString(),
      };
    },
  };
}

export function capabilitiesRoutes({ services, document, facts }: RouteContext): Handlers {
  const limits = readLimits(document, facts);

  return {
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
          statuses.map((status) => [status.kind, engineView(status, has(status.kind))]),
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
