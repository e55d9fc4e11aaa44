import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import type { EngineKind } from '../../src/inference/engine-protocol.js';
import { EngineError } from '../../src/services/engines/engine-error.js';
import { createEngines, type Engines } from '../../src/services/engines/engines.js';
import { createGpuMonitor, type GpuProbe } from '../../src/services/card/gpu-monitor.js';
import { createDeviceMemory } from '../../src/services/card/device-memory.js';
import { createSimulatedGpu } from '../engines/simulated-gpu.js';
import { engineStatus, generateParams, silentLog, testEngine, until } from '../engines/support.js';

const gib = 2 ** 30;
type Sizes = Partial<
  Record<
    EngineKind,
    { resident: number; working: number; /** What the service expects in its place. */ expected?: number }
  >
>;

/**
 * Engines as real processes that take memory of a simulated card; the budget reads the card as it reads real
 * ones.
 */
async function assemble(
  t: Test,
  {
    gigabytes,
    sizes,
    patienceMs = 1500,
    hideProcesses = false,
  }: { gigabytes: number; sizes: Sizes; patienceMs?: number; hideProcesses?: boolean },
) {
  const folder = path.join(t.testdir({}), 'card');
  const outputDir = path.join(t.testdirName, 'out');
  const card = createSimulatedGpu(folder, gigabytes * gib);
  await mkdir(outputDir);
  const { processes: _hidden, ...shy } = card;
  const probe: GpuProbe = hideProcesses ? shy : card;
  const gpu = createGpuMonitor({ probes: [probe], maxAgeMs: 0 });
  const kinds = Object.keys(sizes) as EngineKind[];
  const released: string[] = [];
  const memory = createDeviceMemory({
    gpu,
    log: silentLog,
    patienceMs,
    sampleMs: 60,
    configuredBytes: gigabytes * gib,
    statuses: () => engines.statuses(),
    expected: Object.fromEntries(
      kinds.map((kind) => [
        kind,
        {
          residentBytes: (sizes[kind]?.resident ?? 0) * gib,
          workingBytes: (sizes[kind]?.expected ?? sizes[kind]?.working ?? 0) * gib,
        },
      ]),
    ),
    evict: async (kind, why) => {
      released.push(kind);
      await engines.release(kind, { force: false, why });
    },
  });
  const engines: Engines = createEngines({
    memory,
    engines: kinds.map((kind) =>
      testEngine({
        kind,
        restartBaseMs: 30,
        load: {
          modelDir: 'none',
          device: 'cuda',
          threads: 1,
          options: {
            card: folder,
            residentBytes: (sizes[kind]?.resident ?? 0) * gib,
            workingBytes: (sizes[kind]?.working ?? 0) * gib,
          },
        },
      }),
    ),
  });
  t.teardown(async () => {
    memory.stop();
    await engines.stop({ force: true });
  });
  await memory.start();
  engines.start();
  /** As the runner does it. */
  async function draw(kind: EngineKind, prompt = 'a circle') {
    await engines.whenServing(kind, new AbortController().signal);
    return engines.call(kind, 'sdxl.generate', generateParams(prompt, outputDir));
  }
  return { card, memory, engines, released, draw };
}

/** SDXL and WAN compute one job at a time, Qwen several. */
async function runMixed(t: Test, gigabytes: number, sizes: Sizes, jobsEach: number) {
  const { card, engines, released, draw, memory } = await assemble(t, { gigabytes, sizes });
  const stream = async (kind: EngineKind) => {
    for (let job = 0; job < jobsEach; job += 1) await draw(kind, 'is slow');
  };
  await Promise.all([stream('sdxl'), stream('wan'), stream('qwen'), stream('qwen')]);
  t.same(card.violations(), [], 'never more than the card has');
  t.ok(
    card.peakBytes() <= gigabytes * gib && card.peakBytes() > 0,
    `peak ${card.peakBytes() / gib} of ${gigabytes} GB`,
  );
  t.same(
    engines.statuses().map(({ errorCount }) => errorCount),
    [0, 0, 0],
    'no engine was ended while it computed',
  );
  t.equal(memory.view().waiting, 0);
  return released;
}

t.test('48 GB: everybody stays', async (t) => {
  t.same(
    await runMixed(
      t,
      48,
      {
        sdxl: { resident: 7, working: 5 },
        wan: { resident: 14, working: 9 },
        qwen: { resident: 5, working: 1 },
      },
      4,
    ),
    [],
  );
});

t.test('24 GB: they take turns', async (t) => {
  const released = await runMixed(
    t,
    24,
    {
      sdxl: { resident: 7, working: 5 },
      wan: { resident: 12, working: 8 },
      qwen: { resident: 5, working: 1 },
    },
    4,
  );
  t.ok(released.length > 0, `ended for others: ${released.join(', ')}`);
});

t.test('12 GB: one at a time', async (t) => {
  const released = await runMixed(
    t,
    12,
    {
      sdxl: { resident: 6, working: 3 },
      wan: { resident: 6, working: 5 },
      qwen: { resident: 3, working: 1 },
    },
    2,
  );
  t.ok(released.length > 0, `ended for others: ${released.join(', ')}`);
});

t.test(
  'at the start only what fits is loaded; the rest sleeps until it is needed, and Qwen goes for it',
  async (t) => {
    const { engines, released, draw } = await assemble(t, {
      gigabytes: 24,
      sizes: {
        sdxl: { resident: 6, working: 4 },
        wan: { resident: 12, working: 8 },
        qwen: { resident: 5, working: 1 },
      },
    });
    await until('qwen', () => engines.status('qwen').state === 'ready');
    t.match(engines.status('wan'), {
      state: 'stopped',
      resting: true,
      reason: /not enough GPU memory/,
      errorCount: 0,
    });
    await draw('wan');
    t.same(released, ['qwen', 'sdxl']);
    t.match(engines.status('sdxl'), {
      state: 'stopped',
      resting: true,
      reason: 'stopped to make room for wan; starts with its next request',
    });
    await draw('sdxl');
    t.same(released, ['qwen', 'sdxl'], 'it computes beside an idle wan');
  },
);

t.test('running out of memory teaches: the neighbours leave before the next attempt', async (t) => {
  const { card, released, draw, memory } = await assemble(t, {
    gigabytes: 20,
    sizes: { sdxl: { resident: 6, working: 2 }, wan: { resident: 6, working: 12, expected: 7 } },
  });
  await draw('sdxl');
  const code = await draw('wan').then(
    () => 'drawn',
    (error: unknown) => (error instanceof EngineError ? error.code : String(error)),
  );
  t.equal(code, 'out_of_memory', 'it was thought to fit beside sdxl');
  t.equal(card.violations().length, 1);
  t.same(released, []);
  await draw('wan').catch(() => {});
  await draw('wan');
  t.same(released, ['sdxl']);
  t.ok(memory.view().committedBytes <= 20 * gib);
});

t.test('what engines hold is measured, by process or as what is left of the card', async (t) => {
  for (const hideProcesses of [false, true]) {
    const { memory, engines, draw } = await assemble(t, {
      gigabytes: 48,
      hideProcesses,
      sizes: { sdxl: { resident: 6, working: 2 } },
    });
    await until('a measure', () => memory.deviceBytes('sdxl') === 6 * gib);
    await until(
      "it beside the engine's own heartbeat",
      () => engines.status('sdxl').memory?.deviceBytes === 6 * gib,
    );
    const drawing = draw('sdxl', 'is slow');
    await until('a measure at work', () => memory.deviceBytes('sdxl') === 8 * gib);
    await drawing;
  }
});

t.test('a crashed engine gives its room to who waits for it, and comes back when it is needed', async (t) => {
  const { engines, draw } = await assemble(t, {
    gigabytes: 12,
    sizes: { sdxl: { resident: 6, working: 3 }, wan: { resident: 6, working: 5 } },
  });
  const crash = draw('sdxl', 'crashes always').catch(() => 'crashed');
  const filming = draw('wan');
  t.equal(await crash, 'crashed');
  await filming;
  await draw('sdxl');
  t.equal(engines.status('sdxl').errorCount, 1);
});

t.test(
  'a card that answers late is taken up, and what an earlier run still held at the start is not counted for ever',
  async (t) => {
    const readings = [null, 20, 8];
    let now = 0;
    const status = { ...engineStatus({ state: 'stopped', pid: null }) };
    const gpu = {
      read: () =>
        Promise.resolve(
          readings[now] === null
            ? null
            : {
                name: 'card',
                totalBytes: 48 * gib,
                usedBytes: (readings[now] as number) * gib,
                utilization: 0,
                temperatureCelsius: 40,
                powerWatts: null,
                driver: '1',
              },
        ),
      processes: () => Promise.resolve(null),
    };
    const memory = createDeviceMemory({
      gpu,
      log: silentLog,
      sampleMs: 60_000,
      statuses: () => [status],
      expected: { sdxl: { residentBytes: 8 * gib, workingBytes: 5 * gib } },
      evict: () => Promise.reject(new Error('nobody is ended')),
    });
    t.teardown(() => memory.stop());
    await memory.start();
    t.equal(await memory.capacity(), null);
    now = 1;
    t.ok(Math.abs(((await memory.capacity()) ?? 0) / gib - (48 * 0.98 - 20)) < 1e-9, 'others use 20 GB now');
    await memory.gate('sdxl').reserve();
    now = 2;
    Object.assign(
      status,
      engineStatus({
        pid: 5,
        loaded: {
          device: 'cuda',
          deviceNotes: [],
          loadSeconds: 1,
          model: { name: 'm', features: [], defaultWidth: 64, defaultHeight: 64 },
        },
      }),
    );
    await memory.sample();
    t.equal(memory.deviceBytes('sdxl'), 8 * gib, 'what is on the card is ours');
    t.ok(Math.abs(((await memory.capacity()) ?? 0) / gib - 48 * 0.98) < 1e-9);
  },
);

t.test('nothing is known of a card: nothing is held back', async (t) => {
  const gpu = createGpuMonitor({ probes: [] });
  const memory = createDeviceMemory({
    gpu,
    log: silentLog,
    statuses: () => [],
    expected: {
      sdxl: { residentBytes: 99 * gib, workingBytes: gib },
      wan: { residentBytes: 99 * gib, workingBytes: gib },
    },
    evict: () => Promise.reject(new Error('nobody is ended')),
  });
  await memory.start();
  for (const kind of ['sdxl', 'wan', 'sdxl'] as const) {
    t.ok(await memory.gate(kind).reserve());
    await memory.gate(kind).use();
  }
  t.equal(await memory.capacity(), null);
});
