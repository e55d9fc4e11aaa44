/** What one model needs of a card, bytes. */
export interface Footprint {
  /** While it is loaded. */
  residentBytes: number;
  /** On top of that, while it computes. */
  workingBytes: number;
}

export interface BudgetedModel extends Footprint {
  name: string;
  resident: boolean;
  busy: boolean;
  /** Order of last use: the larger, the later. */
  lastUsed: number;
  /** Goes before any other idle model does, however recently it was used. */
  yields: boolean;
  /** Answers several requests at a time in the room of one. */
  shared?: boolean;
}

export interface WaitingRequest {
  id: number;
  model: string;
  sinceMs: number;
}

type Admission =
  | { action: 'admit'; id: number }
  /** End these, then decide again. */
  | { action: 'evict'; models: string[]; for: number }
  | { action: 'wait' };

interface CardState {
  capacityBytes: number;
  models: readonly BudgetedModel[];
  /** Oldest first. */
  waiting: readonly WaitingRequest[];
  nowMs: number;
  /** A request that waited longer is next, whatever that costs in loading. */
  patienceMs: number;
}

/** Bytes spoken for: everything loaded, and the work of everything busy. */
export function committedBytes(models: readonly BudgetedModel[]): number {
  return models.reduce(
    (sum, model) => sum + (model.resident ? model.residentBytes : 0) + (model.busy ? model.workingBytes : 0),
    0,
  );
}

/** None is taken to need more than the card has: one that is thought too large may still try. */
export function withinCapacity(models: Iterable<BudgetedModel>, capacityBytes: number): BudgetedModel[] {
  return [...models].map((model) => {
    const residentBytes = Math.min(model.residentBytes, capacityBytes);
    return {
      ...model,
      residentBytes,
      workingBytes: Math.min(model.workingBytes, capacityBytes - residentBytes),
    };
  });
}

/** It fits beside what is loaded, with room for the largest work of any of them. */
export function mayLoad(name: string, models: readonly BudgetedModel[], capacityBytes: number): boolean {
  const own = models.find((model) => model.name === name);
  const works = models
    .filter((model) => !model.busy && (model.resident || model === own))
    .map(({ workingBytes }) => workingBytes);
  return committedBytes(models) + (own?.residentBytes ?? 0) + Math.max(0, ...works) <= capacityBytes;
}

/** It is loaded and idle, and its work fits beside all that is going on. */
export function mayCompute(name: string, models: readonly BudgetedModel[], capacityBytes: number): boolean {
  const own = models.find((model) => model.name === name);
  return (
    own !== undefined &&
    own.resident &&
    !own.busy &&
    committedBytes(models) + own.workingBytes <= capacityBytes
  );
}

/**
 * Who computes next on a card. A busy model is never ended. Requests for models that are loaded go first,
 * because loading costs more than most jobs; after `patienceMs` age wins over that. A model somebody waits
 * for is ended only when nothing else can go on. Pure: the same state gives the same answer, so that
 * simulated cards test what real ones run.
 */
export function decideAdmission(state: CardState): Admission {
  const { models, waiting, capacityBytes, nowMs, patienceMs } = state;
  const find = (name: string) => models.find((model) => model.name === name);
  const free = capacityBytes - committedBytes(models);
  const idle = !models.some(({ busy }) => busy);
  const overdue = waiting.find(({ sinceMs }) => nowMs - sinceMs >= patienceMs);
  const overdueModel = overdue === undefined ? undefined : find(overdue.model);
  const needOf = (model: BudgetedModel) => model.workingBytes + (model.resident ? 0 : model.residentBytes);
  const byResidency = [...waiting].sort(
    (a, b) => Number(find(b.model)?.resident ?? false) - Number(find(a.model)?.resident ?? false),
  );
  const candidates =
    overdue === undefined ? byResidency : [overdue, ...byResidency.filter((request) => request !== overdue)];

  for (const request of candidates) {
    const model = find(request.model);
    if (model === undefined) continue;
    if (model.busy) {
      if (model.shared === true && (overdue === undefined || overdueModel === model))
        return { action: 'admit', id: request.id };
      continue;
    }
    const need = needOf(model);
    const isOverdue = request === overdue;
    // Nobody takes the room an overdue request waits for.
    const kept =
      !isOverdue && overdueModel !== undefined && overdueModel !== model && !overdueModel.busy
        ? needOf(overdueModel)
        : 0;
    if (need + kept <= free) return { action: 'admit', id: request.id };
    if (kept > 0) continue;
    const victims = chooseVictims(model, need - free, isOverdue || idle);
    if (victims !== null) return { action: 'evict', models: victims, for: request.id };
  }
  return { action: 'wait' };

  function chooseVictims(wanted: BudgetedModel, missing: number, evenAwaited: boolean): string[] | null {
    const awaited = (name: string) => waiting.some((request) => request.model === name);
    const possible = models
      .filter(
        (model) => model.resident && !model.busy && model !== wanted && (evenAwaited || !awaited(model.name)),
      )
      .sort(
        (a, b) =>
          Number(awaited(a.name)) - Number(awaited(b.name)) ||
          Number(b.yields) - Number(a.yields) ||
          a.lastUsed - b.lastUsed,
      );
    const chosen: BudgetedModel[] = [];
    let gained = 0;
    for (const model of possible) {
      if (gained >= missing) break;
      chosen.push(model);
      gained += model.residentBytes;
    }
    if (gained < missing) return null;
    // What came first by rule may be too small to matter beside what came later.
    const needed = chosen.filter((model) => {
      if (gained - model.residentBytes < missing) return true;
      gained -= model.residentBytes;
      return false;
    });
    return needed.map(({ name }) => name);
  }
}
