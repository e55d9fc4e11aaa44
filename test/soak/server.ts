/**
 * The service as `src/server.ts` builds it, with the test engine for SDXL: its jobs take milliseconds and misbehave on command.
 * With `healthy` as its argument a silent engine is ended much sooner than by default: nothing that works may be.
 */
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { buildApp } from '../../src/app.js';
import { readConfig } from '../../src/config.js';
import { createServices } from '../../src/services/index.js';
import { testEngineEntry } from '../engines/support.js';

const watchdogs = process.argv[2] === 'healthy' ? { heartbeatTimeoutMs: 3000, stageLimitsMs: { denoise: 10_000, encode: 5000 } } : { restartBaseMs: 50, restartMaxMs: 400, recycleGrowthBytes: 150 * 2 ** 20, memoryIntervalMs: 1000 };
const config = readConfig(process.env);
const log = pino({ level: config.logLevel });
const registry = new Registry();
const services = await createServices(config, log, {
  registry, environment: process.env, engineEntry: testEngineEntry, engines: { sdxl: watchdogs },
});
const app = await buildApp({ config, apiKey: config.apiKey ?? '', services, registry, log, facts: { version: services.version, workerId: services.workerId, schedulers: services.schedulers, featuresOff: [] } });
process.once('SIGTERM', () => void app.close().then(() => services.stop()).then(() => process.exit(0)));
await app.listen({ host: '127.0.0.1', port: config.port });
await services.start();
