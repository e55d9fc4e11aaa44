import type { Registry } from 'prom-client';
import type { OpenApiDocument } from '../contract/document.js';
import type { Services } from '../services/types.js';
import type { DisconnectSignals } from './disconnect.js';

/** What handlers work with. */
export interface RouteContext {
  services: Services;
  document: OpenApiDocument;
  registry: Registry;
  disconnect: DisconnectSignals;
  facts: ServiceFacts;
}

/** Facts of this process that answers repeat. */
export interface ServiceFacts {
  version: string;
  /** Name of this instance among those that share the queue. */
  workerId: string;
  bodyLimitBytes: number;
  maxWaitingJobs: number;
  /** What a job is sampled with that names nothing. */
  schedulers: Record<'sdxl' | 'wan', string>;
  /** Features the configuration leaves off, each with the reason. */
  featuresOff: Array<{ feature: string; reason: string }>;
}
