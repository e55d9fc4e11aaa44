/**
 * The service as `src/server.ts` builds it. Argument `real`: with its own engines and limits. `trouble`: with
 * the test engine for SDXL, whose jobs take milliseconds and misbehave on command. `healthy`: the same, and a
 * silent engine is ended much sooner than by default. `enhance`: as `real`, and the prompt model says twice a
 * second what it holds.
 */
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { buildApp } from '../../src/app.js';
import { readConfig } from '../../src/config.js';
import { openKeyRing } from '../../src/plugins/api-keys.js';
import { createServices } from '../../src/services/index.js';
import { testEngineEntry } from '../engines/support.js';

const kind = process.argv[2];
const watchdogs =
  kind === 'healthy'
    ? { heartbeatTimeoutMs: 3000, stageLimitsMs: { denoise: 10_000, encode: 5000 } }
    : { restartBaseMs: 50, restartMaxMs: 400, recycleGrowthBytes: 150 * 2 ** 20, memoryIntervalMs: 1000 };
const config = readConfig(process.env);
const log = pino({ level: config.logLevel });
const registry = new Registry();
const services = await createServices(config, log, {
  registry,
  environment: process.env,
  ...(kind === 'real'
    ? {}
    : kind === 'enhance'
      ? { engines: { qwen: { memoryIntervalMs: 500 } } }
      : { engineEntry: testEngineEntry, engines: { sdxl: watchdogs } }),
});
const app = await buildApp({
  config,
  keys: await openKeyRing({ apiKey: config.apiKey, log }),
  services,
  registry,
  log,
  facts: {
    version: services.version,
    workerId: services.workerId,
    schedulers: services.schedulers,
    compel: true,
    featuresOff: [],
  },
});
process.once(
  'SIGTERM',
  () =>
    void app
      .close()
      .then(() => services.stop())
      .then(() => process.exit(0)),
);
await app.listen({ host: '127.0.0.1', port: config.port });
await services.start();
