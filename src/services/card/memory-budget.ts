import type { Logger } from 'pino';
import {
  committedBytes,
  decideAdmission,
  mayCompute,
  mayLoad,
  withinCapacity,
  type BudgetedModel,
  type Footprint,
  type WaitingRequest,
} from './admission-policy.js';

interface MemoryBudgetOptions {
  /** What the card has for these models, bytes; null: not known, and nothing is held back. */
  capacityBytes: () => Promise<number | null>;
  models: ReadonlyArray<{ name: string; expected: Footprint; yields?: boolean; shared?: boolean }>;
  /** Ends a model's process for another one; resolves when its memory is free. */
  evict: (name: string, wanted: string) => Promise<void>;
  patienceMs?: number;
  log?: Pick<Logger, 'warn'> | undefined;
}

interface Entry extends BudgetedModel {
  /** Most it was thought, or seen, to need while it computes, bytes. */
  totalBytes: number;
  holders: number;
  /** Counted as loaded for the one that uses it, without a process that holds anything yet, or any more. */
  withoutProcess: boolean;
  loads: number;
}

/** After an out-of-memory error the work is taken to need this much more than was thought. */
const growthFactor = 1.25;
const leastGrowth = 0.05;
const retryEvictionMs = 5000;

/**
 * Who is on the card, who may come on, and who has to go for it. What is admitted together fits together, as
 * far as the footprints are right: they begin as expectations, and measurements and out-of-memory errors
 * correct them. A model that is thought too large for the card may still try, with the card to itself.
 */
export function createMemoryBudget({
  capacityBytes,
  models: declared,
  evict,
  patienceMs = 120_000,
  log,
}: MemoryBudgetOptions) {
  const models = new Map<string, Entry>(
    declared.map(({ name, expected, yields = false, shared = false }) => [
      name,
      {
        name,
        ...expected,
        totalBytes: expected.residentBytes + expected.workingBytes,
        yields,
        shared,
        resident: false,
        busy: false,
        lastUsed: 0,
        holders: 0,
        withoutProcess: false,
        loads: 0,
      },
    ]),
  );
  const waiting: Array<WaitingRequest & { admit: (release: () => void) => void }> = [];
  let uses = 0;
  let nextId = 1;
  let deciding = false;
  let again = false;
  let timer: NodeJS.Timeout | undefined;

  const capacityOf = async () => (await capacityBytes().catch(() => null)) ?? Infinity;
  /** As the policy sees them. */
  const within = (capacity: number) => withinCapacity(models.values(), capacity);

  async function decide(): Promise<void> {
    again = true;
    if (deciding) return;
    deciding = true;
    try {
      while (again) {
        again = false;
        await decideOnce();
      }
    } catch (error) {
      log?.warn({ err: error }, 'no room could be made on the GPU; trying again');
      later(retryEvictionMs);
    } finally {
      deciding = false;
    }
  }

  async function decideOnce(): Promise<void> {
    const capacity = await capacityOf();
    const decision = decideAdmission({
      capacityBytes: capacity,
      models: within(capacity),
      waiting,
      nowMs: performance.now(),
      patienceMs,
    });
    if (decision.action === 'admit') {
      const request = remove(decision.id);
      const model = request === undefined ? undefined : models.get(request.model);
      if (request === undefined || model === undefined) return;
      request.admit(enter(model));
      again = true;
    } else if (decision.action === 'evict') {
      const wanted = waiting.find(({ id }) => id === decision.for)?.model ?? '';
      for (const name of decision.models) {
        const model = models.get(name);
        const loads = model?.loads;
        await evict(name, wanted);
        if (model !== undefined && model.loads === loads) model.resident = false;
      }
      again = true;
    } else {
      const oldest = waiting[0];
      if (oldest !== undefined && patienceMs !== Infinity)
        later(oldest.sinceMs + patienceMs - performance.now());
    }
  }

  /** Nobody may report meanwhile: an overdue request, or an eviction that failed, is looked at again. */
  function later(ms: number): void {
    clearTimeout(timer);
    if (ms > 0) timer = setTimeout(() => void decide(), ms).unref();
  }

  function remove(id: number) {
    const index = waiting.findIndex((request) => request.id === id);
    return index < 0 ? undefined : waiting.splice(index, 1)[0];
  }

  function resize(model: Entry, residentBytes: number, totalBytes: number): void {
    model.residentBytes = residentBytes;
    model.totalBytes = Math.max(residentBytes, totalBytes);
    model.workingBytes = model.totalBytes - residentBytes;
  }

  function enter(model: Entry): () => void {
    if (!model.resident) model.withoutProcess = true;
    model.resident = true;
    model.busy = true;
    model.holders += 1;
    model.lastUsed = ++uses;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      model.holders -= 1;
      model.busy = model.holders > 0;
      model.lastUsed = ++uses;
      if (!model.busy && model.withoutProcess) model.resident = false;
      void decide();
    };
  }

  return {
    /**
     * Waits until `name` may be loaded and compute; call the result when it has computed. Rejects with the
     * signal's reason on abort.
     */
    async use(name: string, signal?: AbortSignal): Promise<() => void> {
      const model = models.get(name);
      if (model === undefined) return () => {};
      signal?.throwIfAborted();
      const id = nextId++;
      return new Promise((admit, refuse) => {
        const onAbort = () => {
          if (remove(id) === undefined) return;
          refuse(signal?.reason as Error);
          void decide();
        };
        signal?.addEventListener('abort', onAbort, { once: true });
        waiting.push({
          id,
          model: name,
          sinceMs: performance.now(),
          admit: (release) => {
            signal?.removeEventListener('abort', onAbort);
            admit(release);
          },
        });
        void decide();
      });
    },
    /**
     * As `use`, for work that must not disturb: only when it is loaded and idle and nobody waits for room.
     */
    async useIfFree(name: string): Promise<(() => void) | null> {
      const model = models.get(name);
      if (model === undefined) return () => {};
      const capacity = await capacityOf();
      return waiting.length === 0 && mayCompute(name, within(capacity), capacity) ? enter(model) : null;
    },
    /**
     * True when `name` may be loaded now: it is being waited for, or fits beside what is loaded with room for
     * the largest work. It is then counted as loaded.
     */
    async reserveLoad(name: string): Promise<boolean> {
      const model = models.get(name);
      if (model === undefined) return true;
      if (!model.resident) {
        const capacity = await capacityOf();
        if (!mayLoad(name, within(capacity), capacity)) return false;
      }
      model.resident = true;
      model.withoutProcess = false;
      model.loads += 1;
      return true;
    },
    /** Its process ended: it holds nothing of the card. */
    left(name: string): void {
      const model = models.get(name);
      if (model === undefined || !model.resident) return;
      if (model.busy) model.withoutProcess = true;
      else model.resident = false;
      void decide();
    },
    /** What its process holds, bytes. Idle: exactly that; else at least that is needed to compute. */
    measured(name: string, bytes: number, { idle }: { idle: boolean }): void {
      const model = models.get(name);
      if (model === undefined || !model.resident || model.withoutProcess) return;
      if (idle && !model.busy) resize(model, bytes, model.totalBytes);
      else if (bytes > model.totalBytes) resize(model, model.residentBytes, bytes);
    },
    /** It computes on another device than the card. */
    elsewhere(name: string): void {
      const model = models.get(name);
      if (model !== undefined) resize(model, 0, 0);
      void decide();
    },
    /**
     * It ran out of memory: its work needs more than was thought, so that idle neighbours leave before the
     * next attempt.
     */
    async ranOutOfMemory(name: string): Promise<void> {
      const model = models.get(name);
      if (model === undefined) return;
      const capacity = await capacityOf();
      const growth = Math.max(model.workingBytes * (growthFactor - 1), model.totalBytes * leastGrowth);
      if (capacity === Infinity) return;
      const total = Math.max(model.totalBytes, Math.min(model.totalBytes + growth, capacity));
      resize(model, model.residentBytes, total);
    },
    stop(): void {
      clearTimeout(timer);
    },
    /** For the status monitor and tests. */
    view: () => ({
      committedBytes: committedBytes([...models.values()]),
      waiting: waiting.length,
      models: [...models.values()].map((model) => ({ ...model })),
    }),
  };
}
