import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { InjectOptions, LightMyRequestResponse } from 'fastify';
import type { Logger } from 'pino';
import { Registry } from 'prom-client';
import type { Test } from 'tap';
import { buildApp } from '../../src/app.js';
import { readConfig } from '../../src/config.js';
import { openKeyRing } from '../../src/plugins/api-keys.js';
import { createServices, type ServiceOptions, type Services } from '../../src/services/index.js';
import { silentLog } from '../engines/support.js';
import { createContractChecker } from './assert-contract.js';

export const testApiKey = 'key-of-the-app-under-test';

export interface BuildOptions {
  /** Settings beside those of the test itself. */
  env?: Record<string, string>;
  /** Parts in place of the real ones. */
  services?: Partial<Services>;
  /** Of the real services: engines, their entry. */
  options?: Partial<ServiceOptions>;
  log?: Logger;
  /** Takes jobs; without it they stay where they are. */
  start?: boolean;
  /** Collects what was seen of the contract over several apps. */
  checker?: ReturnType<typeof createContractChecker>;
}

/**
 * The app over real services on embedded defaults in a folder of the test's own. Every answer of `inject` is
 * held against openapi.yaml: a test fails on an undeclared status, type or field even when it looks at
 * nothing of it.
 */
export async function build(
  t: Test,
  {
    env = {},
    services: parts = {},
    options = {},
    log = silentLog,
    start = false,
    checker = createContractChecker(),
  }: BuildOptions = {},
) {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-app-'));
  const config = readConfig({
    DATA_DIR: dataDir,
    MODELS_DIR: '/nonexistent',
    SHUTDOWN_GRACE_SECONDS: '1',
    ...env,
  });
  const registry = new Registry();
  const real = await createServices(config, log, { registry, environment: process.env, ...options });
  const services: Services = { ...real, ...parts };
  const app = await buildApp({
    config,
    keys: await openKeyRing({ apiKey: testApiKey, file: config.apiKeysFile, log }),
    services,
    registry,
    log,
    facts: {
      version: real.version,
      workerId: real.workerId,
      schedulers: real.schedulers,
      compel: config.compel,
      featuresOff: [],
    },
  });
  t.teardown(async () => {
    await app.close();
    await real.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
  await app.ready();
  if (start) await services.start();

  async function inject(request: InjectOptions & { url: string }): Promise<LightMyRequestResponse> {
    const response = await app.inject(request);
    const method = request.method ?? 'GET';
    t.same(
      checker.check(method, request.url, response),
      [],
      `${method} ${request.url.slice(0, 80)} → ${response.statusCode} keeps the contract`,
    );
    return response;
  }

  return {
    app,
    services,
    engines: real.engines,
    registry,
    config,
    /** Without the key. */
    inject,
    /** With the key. */
    call: (
      method: 'GET' | 'HEAD' | 'POST' | 'DELETE',
      url: string,
      body?: unknown,
      headers: Record<string, string> = {},
    ) =>
      inject({
        method,
        url,
        headers: {
          authorization: `Bearer ${testApiKey}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
  };
}
