import path from 'node:path';
import t from 'tap';
import type { EngineKind } from '../../src/inference/engine-protocol.js';
import { createSimulatedGpu } from '../engines/simulated-gpu.js';
import { testEngineEntry, until } from '../engines/support.js';
import { build } from '../helpers/build.js';

const gib = 2 ** 30;

/**
 * The whole service on a card of 24 GB that cannot hold all three models: queue, runners, enhancement,
 * budget, engines.
 */
t.test(
  'a mix of jobs on a card that is too small for all models at once: all are done, none runs out of memory',
  async (t) => {
    const folder = path.join(t.testdir({ models: { sdxl: {}, wan: {}, qwen: {} } }), 'card');
    const card = createSimulatedGpu(folder, 24 * gib);
    const needs: Record<EngineKind, { residentBytes: number; workingBytes: number }> = {
      sdxl: { residentBytes: 7 * gib, workingBytes: 5 * gib },
      wan: { residentBytes: 12 * gib, workingBytes: 8 * gib },
      qwen: { residentBytes: 5 * gib, workingBytes: gib },
    };
    const engineOf = (kind: EngineKind) => ({
      load: {
        modelDir: 'none',
        device: 'cuda' as const,
        threads: 1,
        options: { card: folder, ...needs[kind] },
      },
      restartBaseMs: 100,
    });
    const { call, engines, services } = await build(t, {
      env: { MODELS_DIR: path.join(t.testdirName, 'models'), GPU_MEMORY_GB: '24' },
      start: true,
      options: {
        engineEntry: testEngineEntry,
        gpuProbes: [card],
        footprints: needs,
        engines: { sdxl: engineOf('sdxl'), wan: engineOf('wan'), qwen: engineOf('qwen') },
      },
    });
    t.match((await call('GET', '/worker/status')).json(), { system: { gpu_memory_total: '24GB' } });
    t.match((await call('GET', '/worker/resources')).json(), {
      memory_budget: {
        capacity_bytes: 24 * gib,
        waiting: 0,
        models: {
          sdxl: { resident_bytes: 7 * gib, working_bytes: 5 * gib },
          wan: { resident_bytes: 12 * gib },
          qwen: { resident: false },
        },
      },
    });
    const types = ['sdxl_image_fast', 'image_fast', 'image7b_fast_enhanced', 'sdxl_image_high'] as const;
    const ids: string[] = [];
    for (let job = 0; job < 12; job += 1) {
      const answer = await call('POST', '/jobs', {
        type: types[job % 4],
        prompt: `a red circle, number ${job}`,
        user_id: '00000000-0000-4000-8000-000000000001',
      });
      t.equal(answer.statusCode, 202, answer.payload.slice(0, 200));
      ids.push(answer.json<{ id: string }>().id);
    }
    const records = async () => Promise.all(ids.map(async (id) => (await services.jobs.get(id))?.record));
    await until(
      'every job',
      async () =>
        (await records()).every(
          (record) => record !== undefined && ['completed', 'failed'].includes(record.status),
        ),
      90_000,
    );
    for (const record of await records())
      t.match(
        record,
        { status: 'completed', attempts: 1 },
        `${record?.type}: ${record?.errorMessage ?? 'done'}`,
      );
    const enhanced = (await records()).filter((record) => record?.type === 'image7b_fast_enhanced');
    t.same(
      enhanced.map((record) => record?.metadata['enhancement_success']),
      [true, true, true],
      'Qwen had its turns, too',
    );
    t.same(card.violations(), []);
    t.ok(card.peakBytes() > 12 * gib && card.peakBytes() <= 24 * gib, `peak ${card.peakBytes() / gib} GiB`);
    t.same(
      engines.statuses().map(({ errorCount }) => errorCount),
      [0, 0, 0],
    );
    t.equal(
      (await call('GET', '/ready')).statusCode,
      200,
      'a model that sleeps for want of room is no trouble',
    );
  },
);
