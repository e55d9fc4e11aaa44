import { setImmediate as settle } from 'node:timers/promises';
import {
  committedBytes,
  decideAdmission,
  type BudgetedModel,
} from '../../src/services/card/admission-policy.js';
import { createMemoryBudget } from '../../src/services/card/memory-budget.js';

export interface SimulatedJob {
  model: string;
  seconds: number;
}
export interface SimulatedRun {
  seconds: number;
  peakBytes: number;
  loads: number;
}

interface Running {
  model: string;
  endsAt: number;
}
type Choose = (state: { models: BudgetedModel[]; waiting: number[]; now: number }) => {
  start?: number;
  evict?: string[];
};

/**
 * Runs jobs on a card in simulated time; loading takes `loadSeconds`, one model computes one job at a time.
 */
function simulate(
  jobs: readonly SimulatedJob[],
  fresh: readonly BudgetedModel[],
  loadSeconds: Record<string, number>,
  choose: Choose,
): SimulatedRun {
  const models = fresh.map((model) => ({ ...model }));
  const waiting = jobs.map((_, index) => index);
  const running: Running[] = [];
  let [now, peakBytes, loads, uses] = [0, 0, 0, 0];
  while (waiting.length > 0 || running.length > 0) {
    const choice = choose({ models, waiting, now });
    for (const model of models) if (choice.evict?.includes(model.name) === true) model.resident = false;
    const job = choice.start === undefined ? undefined : jobs[choice.start];
    const model = models.find(({ name }) => name === job?.model);
    if (job !== undefined && model !== undefined && choice.start !== undefined) {
      waiting.splice(waiting.indexOf(choice.start), 1);
      const loading = model.resident ? 0 : (loadSeconds[model.name] ?? 0);
      if (!model.resident) loads += 1;
      Object.assign(model, { resident: true, busy: true, lastUsed: ++uses });
      running.push({ model: model.name, endsAt: now + loading + job.seconds });
      peakBytes = Math.max(peakBytes, committedBytes(models));
      continue;
    }
    if (choice.evict !== undefined) continue;
    running.sort((a, b) => a.endsAt - b.endsAt);
    const ended = running.shift();
    if (ended === undefined) throw new Error(`stuck with ${waiting.length} jobs waiting and nothing running`);
    now = ended.endsAt;
    const freed = models.find(({ name }) => name === ended.model);
    if (freed !== undefined) freed.busy = false;
  }
  return { seconds: now, peakBytes, loads };
}

export interface Card {
  capacityBytes: number;
  models: BudgetedModel[];
  loadSeconds: Record<string, number>;
  patienceSeconds: number;
}

/**
 * As the service does it: the budget itself, with engines and a clock that only exist here. Nobody is
 * overdue.
 */
export async function runByBudget(
  jobs: readonly SimulatedJob[],
  { capacityBytes, models, loadSeconds }: Card,
): Promise<SimulatedRun> {
  const loaded = new Set<string>();
  const running: Array<{ endsAt: number; end: () => void }> = [];
  let [now, peakBytes, loads, ended] = [0, 0, 0, 0];
  const budget = createMemoryBudget({
    capacityBytes: () => Promise.resolve(capacityBytes),
    evict: (name) => {
      loaded.delete(name);
      return Promise.resolve();
    },
    patienceMs: Infinity,
    models: models.map(({ name, residentBytes, workingBytes, yields }) => ({
      name,
      expected: { residentBytes, workingBytes },
      yields,
    })),
  });
  for (const { model, seconds } of jobs) {
    void budget.use(model).then(async (release) => {
      if (!loaded.has(model)) loads += 1;
      const loading = loaded.has(model) ? 0 : (loadSeconds[model] ?? 0);
      loaded.add(model);
      peakBytes = Math.max(peakBytes, budget.view().committedBytes);
      running.push({ endsAt: now + loading + seconds, end: release });
      await budget.reserveLoad(model);
    });
  }
  while (ended < jobs.length) {
    for (let turn = 0; turn < 5; turn += 1) await settle();
    running.sort((a, b) => a.endsAt - b.endsAt);
    const next = running.shift();
    if (next === undefined) throw new Error(`stuck with ${jobs.length - ended} jobs and nothing running`);
    now = next.endsAt;
    ended += 1;
    next.end();
  }
  return { seconds: now, peakBytes, loads };
}

/** The policy alone, where age goes before what is loaded after `patienceSeconds`. */
export function runByPolicy(
  jobs: readonly SimulatedJob[],
  { capacityBytes, models, loadSeconds, patienceSeconds }: Card,
): SimulatedRun {
  return simulate(jobs, models, loadSeconds, ({ models: now, waiting, now: seconds }) => {
    const decision = decideAdmission({
      capacityBytes,
      models: now,
      waiting: waiting.map((index) => ({ id: index, model: jobs[index]?.model ?? '', sinceMs: 0 })),
      nowMs: seconds * 1000,
      patienceMs: patienceSeconds * 1000,
    });
    return decision.action === 'admit'
      ? { start: decision.id }
      : decision.action === 'evict'
        ? { evict: decision.models }
        : {};
  });
}

/**
 * The shortest run over every order of the jobs: strictly in that order, each as soon as it can be, ending
 * idle models for it.
 */
export function bestOrder(
  jobs: readonly SimulatedJob[],
  { capacityBytes, models, loadSeconds }: Card,
): number {
  let best = Infinity;
  const seen = new Set<string>();
  const visit = (order: number[], rest: number[]): void => {
    if (rest.length > 0) {
      for (const next of rest)
        visit(
          [...order, next],
          rest.filter((index) => index !== next),
        );
      return;
    }
    // Equal jobs in another order are the same schedule.
    const key = order.map((index) => `${jobs[index]?.model} ${jobs[index]?.seconds}`).join();
    if (seen.has(key)) return;
    seen.add(key);
    best = Math.min(best, simulate(jobs, models, loadSeconds, inOrder(order)).seconds);
  };
  const inOrder =
    (order: number[]): Choose =>
    ({ models: now, waiting }) => {
      // Per model in the given order; a job whose model is busy does not hold up the other models' jobs
      // behind it.
      for (const index of order.filter((each) => waiting.includes(each))) {
        const model = now.find(({ name }) => name === jobs[index]?.model);
        if (model === undefined || model.busy) continue;
        const need = model.workingBytes + (model.resident ? 0 : model.residentBytes);
        let free = capacityBytes - committedBytes(now);
        if (need <= free) return { start: index };
        const evict: string[] = [];
        for (const other of now
          .filter((each) => each.resident && !each.busy && each !== model)
          .sort((a, b) => a.lastUsed - b.lastUsed)) {
          if (need <= free) break;
          evict.push(other.name);
          free += other.residentBytes;
        }
        if (need <= free && evict.length > 0) return { evict };
        return {};
      }
      return {};
    };
  visit(
    [],
    jobs.map((_, index) => index),
  );
  return best;
}
