import { committedBytes, decideAdmission, type BudgetedModel, type Footprint } from './admission-policy.js';

export interface MemoryBudgetOptions {
  /** What the card has for these models, bytes; null: not known, and nothing is held back. */
  capacityBytes: () => Promise<number | null>;
  models: ReadonlyArray<{ name: string; expected: Footprint; yields?: boolean }>;
  /** Ends a model's process; resolves when its memory is free. */
  evict: (name: string) => Promise<void>;
  patienceMs?: number;
}

/** A model that would not fit even alone. */
export class TooLargeError extends Error {
  constructor(readonly model: string, readonly needBytes: number, readonly capacityBytes: number) {
    super(`${model} needs ${gib(needBytes)} GiB of GPU memory; the card has ${gib(capacityBytes)} GiB for it`);
    this.name = 'TooLargeError';
  }
}

/** After an out-of-memory error the work is taken to need this much more than was thought. */
const lessonFactor = 1.25;
const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);

/** Who is on the card, who may come on, and who has to go for it. What is admitted together fits together. */
export function createMemoryBudget({ capacityBytes, models: declared, evict, patienceMs = 120_000 }: MemoryBudgetOptions) {
  const models = new Map<string, BudgetedModel>(declared.map(({ name, expected, yields = false }) => [name, { name, ...expected, yields, resident: false, busy: false, lastUsed: 0 }]));
  const waiting: Array<{ id: number; model: string; sinceMs: number; admit: () => void; refuse: (error: Error) => void }> = [];
  let uses = 0;
  let nextId = 1;
  let deciding = false;
  let again = false;
  let overdueTimer: NodeJS.Timeout | undefined;

  async function decide(): Promise<void> {
    if (deciding) { again = true; return; }
    deciding = true;
    try {
      do {
        again = false;
        await decideOnce();
      } while (again);
    } finally {
      deciding = false;
    }
  }

  async function decideOnce(): Promise<void> {
    const capacity = await capacityBytes().catch(() => null) ?? Infinity;
    for (const request of [...waiting]) {
      const model = models.get(request.model);
      if (model !== undefined && model.residentBytes + model.workingBytes > capacity) {
        remove(request.id)?.refuse(new TooLargeError(model.name, model.residentBytes + model.workingBytes, capacity));
      }
    }
    const decision = decideAdmission({ capacityBytes: capacity, models: [...models.values()], waiting, nowMs: Date.now(), patienceMs });
    if (decision.action === 'admit') {
      const request = remove(decision.id);
      const model = request === undefined ? undefined : models.get(request.model);
      if (request === undefined || model === undefined) return;
      model.resident = true;
      model.busy = true;
      model.lastUsed = ++uses;
      request.admit();
      again = true;
    } else if (decision.action === 'evict') {
      for (const name of decision.models) {
        await evict(name);
        const model = models.get(name);
        if (model !== undefined) model.resident = false;
      }
      again = true;
    } else {
      clearTimeout(overdueTimer);
      const oldest = waiting[0];
      const leftMs = oldest === undefined ? 0 : oldest.sinceMs + patienceMs - Date.now();
      if (leftMs > 0) overdueTimer = setTimeout(() => void decide(), leftMs).unref();
    }
  }

  function remove(id: number) {
    const index = waiting.findIndex((request) => request.id === id);
    return index < 0 ? undefined : waiting.splice(index, 1)[0];
  }

  return {
    /**
     * Waits until `name` may be loaded and compute; call the result when it has computed.
     * @throws TooLargeError when it would not fit alone; the signal's reason on abort
     */
    async use(name: string, signal?: AbortSignal): Promise<() => void> {
      const model = models.get(name);
      if (model === undefined) return () => {};
      signal?.throwIfAborted();
      const id = nextId++;
      await new Promise<void>((admit, refuse) => {
        const onAbort = () => { if (remove(id) !== undefined) { refuse(signal?.reason as Error); void decide(); } };
        signal?.addEventListener('abort', onAbort, { once: true });
        const settled = () => signal?.removeEventListener('abort', onAbort);
        waiting.push({ id, model: name, sinceMs: Date.now(), admit: () => { settled(); admit(); }, refuse: (error) => { settled(); refuse(error); } });
        void decide();
      });
      let released = false;
      return () => {
        if (released) return;
        released = true;
        model.busy = false;
        model.lastUsed = ++uses;
        void decide();
      };
    },
    /** True when `name` may be loaded beside what is loaded, with room for the largest work; then counted as loaded. */
    async reserveLoad(name: string): Promise<boolean> {
      const model = models.get(name);
      if (model === undefined || model.resident) return true;
      const capacity = await capacityBytes().catch(() => null) ?? Infinity;
      const largestWork = Math.max(0, ...[...models.values()].filter((each) => !each.busy && (each.resident || each === model)).map((each) => each.workingBytes));
      if (committedBytes([...models.values()]) + model.residentBytes + largestWork > capacity) return false;
      model.resident = true;
      return true;
    },
    /** Its process ended, or it computes on another device: it holds nothing of the card. */
    left(name: string): void {
      const model = models.get(name);
      if (model === undefined || !model.resident || model.busy) return;
      model.resident = false;
      void decide();
    },
    /** Measured while it was idle. */
    measured(name: string, residentBytes: number): void {
      const model = models.get(name);
      if (model !== undefined && residentBytes > 0) model.residentBytes = residentBytes;
    },
    /** It ran out of memory: its work needs more than was thought, so that idle neighbours leave before the next attempt. */
    async ranOutOfMemory(name: string): Promise<void> {
      const model = models.get(name);
      if (model === undefined) return;
      const capacity = await capacityBytes().catch(() => null);
      const grown = model.workingBytes * lessonFactor;
      // Never taught out of the card altogether: with it to itself the model may still try.
      model.workingBytes = capacity === null ? grown : Math.max(model.workingBytes, Math.min(grown, capacity - model.residentBytes));
    },
    /** For the status monitor and tests. */
    view: () => ({ committedBytes: committedBytes([...models.values()]), waiting: waiting.length, models: [...models.values()].map((model) => ({ ...model })) }),
  };
}
export type MemoryBudget = ReturnType<typeof createMemoryBudget>;
