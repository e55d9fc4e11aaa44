import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { decideAdmission, type BudgetedModel } from '../../src/services/card/admission-policy.js';
import { createMemoryBudget } from '../../src/services/card/memory-budget.js';
import { bestOrder, runByBudget, runByPolicy, type SimulatedJob } from './simulated-card.js';

const gib = 2 ** 30;
const model = (
  name: string,
  residentGiB: number,
  workingGiB: number,
  rest: Partial<BudgetedModel> = {},
): BudgetedModel => ({
  name,
  residentBytes: residentGiB * gib,
  workingBytes: workingGiB * gib,
  resident: false,
  busy: false,
  lastUsed: 0,
  yields: name === 'qwen',
  ...rest,
});
const request = (id: number, name: string, sinceMs = 0) => ({ id, model: name, sinceMs });

t.test(
  'who goes: Qwen first, then the least recently used, never a busy one, never more than needed',
  async (t) => {
    const decide = (capacityGiB: number, models: BudgetedModel[], waiting = [request(1, 'wan')], nowMs = 0) =>
      decideAdmission({ capacityBytes: capacityGiB * gib, models, waiting, nowMs, patienceMs: 1000 });
    const on = { resident: true };
    t.same(
      decide(48, [model('sdxl', 7, 5, on), model('wan', 14, 8), model('qwen', 5, 1, on)]),
      { action: 'admit', id: 1 },
      'all fit',
    );
    t.same(
      decide(30, [
        model('sdxl', 7, 5, { ...on, lastUsed: 1 }),
        model('wan', 14, 8),
        model('qwen', 5, 1, { ...on, lastUsed: 9 }),
      ]),
      { action: 'evict', models: ['qwen'], for: 1 },
      'Qwen yields though used last',
    );
    t.same(
      decide(24, [model('sdxl', 7, 5, on), model('wan', 14, 8), model('qwen', 1, 1, on)]),
      { action: 'evict', models: ['sdxl'], for: 1 },
      'a small one that would not help stays',
    );
    t.same(
      decide(24, [model('sdxl', 7, 5, { ...on, busy: true }), model('wan', 14, 8), model('qwen', 5, 1, on)]),
      { action: 'wait' },
      'a busy one is left alone, and nobody is ended in vain',
    );
    t.same(
      decide(20, [
        model('a', 8, 1, { ...on, lastUsed: 5 }),
        model('b', 8, 1, { ...on, lastUsed: 2 }),
        model('wan', 8, 1),
      ]),
      { action: 'evict', models: ['b'], for: 1 },
    );
    const two = [request(1, 'wan'), request(2, 'sdxl', 900)];
    t.same(
      decide(24, [model('sdxl', 7, 5, on), model('wan', 14, 8)], two),
      { action: 'admit', id: 2 },
      'loaded goes before older',
    );
    t.same(
      decide(24, [model('sdxl', 7, 5, on), model('wan', 14, 8)], two, 1500),
      { action: 'evict', models: ['sdxl'], for: 1 },
      'until the older one is overdue',
    );
  },
);

t.test('simulated cards of 48, 24 and 12 GB: never exceeded, at least 90 % of the best order', async (t) => {
  const cards = [
    { gigabytes: 48, models: [model('sdxl', 7, 5), model('wan', 14, 9), model('qwen', 5, 1)] },
    { gigabytes: 24, models: [model('sdxl', 7, 5), model('wan', 12, 8), model('qwen', 5, 1)] },
    { gigabytes: 12, models: [model('sdxl', 6, 3), model('wan', 6, 5), model('qwen', 3, 1)] },
  ];
  const loadSeconds = { sdxl: 12, wan: 30, qwen: 8 };
  const seconds = { sdxl: [3, 8, 20], wan: [30, 60, 150], qwen: [5, 12, 5] } as const;
  const names = ['sdxl', 'wan', 'qwen'] as const;
  let random = 12345;
  const next = (limit: number) => {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    return (random >>> 8) % limit;
  };
  for (const { gigabytes, models } of cards) {
    const ratios: number[] = [];
    const strict: number[] = [];
    for (let round = 0; round < 4; round += 1) {
      const jobs: SimulatedJob[] = Array.from({ length: 8 }, () => {
        const name = names[next(3)] ?? 'sdxl';
        return { model: name, seconds: seconds[name][next(3)] ?? 0 };
      });
      const card = { capacityBytes: gigabytes * gib, models, loadSeconds, patienceSeconds: 0 };
      const run = await runByBudget(jobs, card);
      t.ok(
        run.peakBytes <= card.capacityBytes,
        `${gigabytes} GB, case ${round}: peak ${run.peakBytes / gib} GiB`,
      );
      const best = bestOrder(jobs, card);
      ratios.push(best / run.seconds);
      strict.push(best / runByPolicy(jobs, card).seconds);
    }
    const worst = Math.min(...ratios);
    t.comment(
      `${gigabytes} GB: worst ${worst.toFixed(3)}, mean ${(ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length).toFixed(3)} of the best order; strictly by age: worst ${Math.min(...strict).toFixed(3)}`,
    );
    if (gigabytes === 12) t.ok(Math.min(...strict) < 0.9, 'the measure tells a bad order from a good one');
    t.ok(worst >= 0.9, `${gigabytes} GB: worst case ${worst.toFixed(3)} of the best order`);
  }
});

t.test('waits for room, ends idle models for it, learns', async (t) => {
  const gone: string[] = [];
  const budget = createMemoryBudget({
    capacityBytes: async () => 24 * gib,
    evict: async (name) => {
      await sleep(5);
      gone.push(name);
    },
    models: [
      { name: 'sdxl', expected: { residentBytes: 7 * gib, workingBytes: 5 * gib } },
      { name: 'wan', expected: { residentBytes: 12 * gib, workingBytes: 8 * gib } },
      { name: 'huge', expected: { residentBytes: 30 * gib, workingBytes: 0 } },
    ],
  });
  const drawn = await budget.use('sdxl');
  await budget.reserveLoad('sdxl');
  let filmed: (() => void) | undefined;
  const filming = budget.use('wan').then((release) => {
    filmed = release;
  });
  await sleep(30);
  t.equal(filmed, undefined, 'not beside a busy model it does not fit with');
  t.same(gone, []);
  drawn();
  await filming;
  await budget.reserveLoad('wan');
  t.same(gone, ['sdxl']);
  t.ok(budget.view().committedBytes <= 24 * gib);
  const impatient = new AbortController();
  const waiting = budget.use('sdxl', impatient.signal);
  impatient.abort(new Error('cancelled'));
  await t.rejects(waiting, { message: 'cancelled' });
  t.equal(budget.view().waiting, 0);
  filmed?.();
  const release = await budget.use('huge');
  t.same(gone, ['sdxl', 'wan'], 'what is thought larger than the card may try with the card to itself');
  release();
  const before = budget.view().models[1]?.workingBytes ?? 0;
  await budget.ranOutOfMemory('wan');
  t.equal(budget.view().models[1]?.workingBytes, before * 1.25);
  for (let time = 0; time < 10; time += 1) await budget.ranOutOfMemory('wan');
  (await budget.use('wan'))();
  t.pass('it may still try with the card to itself');
});

t.test('measurements correct what was expected', async (t) => {
  const gone: string[] = [];
  const budget = createMemoryBudget({
    capacityBytes: async () => 24 * gib,
    evict: async (name) => {
      gone.push(name);
    },
    models: ['sdxl', 'wan'].map((name) => ({
      name,
      expected: { residentBytes: 10 * gib, workingBytes: 6 * gib },
    })),
  });
  const of = (name: string) => budget.view().models.find((each) => each.name === name);
  t.ok(await budget.reserveLoad('sdxl'));
  t.notOk(await budget.reserveLoad('wan'), 'twenty and six are more than there is');
  budget.measured('sdxl', 7 * gib, { idle: true });
  t.match(
    of('sdxl'),
    { residentBytes: 7 * gib, workingBytes: 9 * gib },
    'what it needs in all has not become less',
  );
  const release = await budget.use('sdxl');
  budget.measured('sdxl', 18 * gib, { idle: false });
  t.match(of('sdxl'), { residentBytes: 7 * gib, workingBytes: 11 * gib }, 'seen to need more');
  release();
  budget.left('sdxl');
  t.ok(await budget.reserveLoad('wan'), 'room that came free');
  budget.elsewhere('wan');
  t.ok(await budget.reserveLoad('sdxl'), 'a model on another device takes none');
  t.same(gone, []);
});

t.test('a model that answers several at a time shares its room, until somebody is overdue', async (t) => {
  const budget = createMemoryBudget({
    capacityBytes: async () => 24 * gib,
    evict: async () => {},
    patienceMs: 40,
    models: [
      { name: 'qwen', expected: { residentBytes: 5 * gib, workingBytes: gib }, shared: true },
      { name: 'wan', expected: { residentBytes: 14 * gib, workingBytes: 8 * gib } },
    ],
  });
  const [first, second] = await Promise.all([budget.use('qwen'), budget.use('qwen')]);
  const order: string[] = [];
  const film = budget.use('wan').then((release) => {
    order.push('wan');
    release();
  });
  await sleep(60);
  const late = budget.use('qwen').then((release) => {
    order.push('qwen');
    release();
  });
  await sleep(10);
  t.same(order, [], 'who waited longer is not passed by');
  first();
  second();
  await Promise.all([film, late]);
  t.same(order, ['wan', 'qwen']);
});

t.test('an eviction that fails is tried again and leaves nobody waiting for ever', async (t) => {
  let failures = 1;
  const budget = createMemoryBudget({
    capacityBytes: async () => 24 * gib,
    evict: async () => {
      if (failures-- > 0) throw new Error('it would not go');
    },
    models: ['sdxl', 'wan'].map((name) => ({
      name,
      expected: { residentBytes: 14 * gib, workingBytes: gib },
    })),
  });
  const draw = await budget.use('sdxl');
  await budget.reserveLoad('sdxl');
  draw();
  const film = budget.use('wan');
  await sleep(20);
  t.equal(budget.view().waiting, 1);
  t.equal(budget.view().models[0]?.resident, true, 'who would not go still counts');
  (await budget.use('sdxl'))();
  await film;
});

t.test('a card nobody knows the size of holds nothing back', async (t) => {
  const budget = createMemoryBudget({
    capacityBytes: async () => null,
    evict: async () => {
      throw new Error('nobody is ended');
    },
    models: ['sdxl', 'wan'].map((name) => ({
      name,
      expected: { residentBytes: 99 * gib, workingBytes: gib },
    })),
  });
  await Promise.all([budget.use('sdxl'), budget.use('wan')]);
  t.equal(
    budget.view().models.every(({ busy }) => busy),
    true,
  );
});
