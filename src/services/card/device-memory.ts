import type { Logger } from 'pino';
import type { Device, EngineKind, LoadResult, MemoryReport } from '../../inference/engine-protocol.js';
import type { GpuMonitor } from './gpu-monitor.js';
import type { Footprint } from './admission-policy.js';
import { createMemoryBudget } from './memory-budget.js';

/** What a supervisor asks of the memory budget for its one engine. */
export interface MemoryGate {
  /** True when its process may be started now; its model is then counted as loaded. */
  reserve(): Promise<boolean>;
  /**
   * Waits until it may be loaded and compute, ending idle neighbours for it; call the result when it has
   * computed. Rejects with the signal's reason on abort.
   */
  use(signal?: AbortSignal): Promise<() => void>;
  /** As `use`, when that needs neither waiting nor ending anybody; null otherwise. */
  useIfFree(): Promise<(() => void) | null>;
  loadedOn(device: Device): void;
  /** What the card has for the models, bytes; null when nobody knows. */
  capacityBytes(): Promise<number | null>;
  /** Its process has ended and is not replaced at once. */
  left(): void;
  ranOutOfMemory(): void;
}

/** Nobody knows what the card has, or there is none: nothing is held back. */
export const noGate: MemoryGate = {
  reserve: () => Promise.resolve(true),
  use: () => Promise.resolve(() => {}),
  useIfFree: () => Promise.resolve(() => {}),
  loadedOn: () => {},
  capacityBytes: () => Promise.resolve(null),
  left: () => {},
  ranOutOfMemory: () => {},
};

/** What is looked at of an engine's status. */
interface EngineOnCard {
  kind: EngineKind;
  state: string;
  pid: number | null;
  jobsProcessed: number;
  errorCount: number;
  loaded: Pick<LoadResult, 'device'> | null;
  memory: Pick<MemoryReport, 'rssBytes'> | null;
}

export interface DeviceMemoryOptions {
  gpu: Pick<GpuMonitor, 'read' | 'processes'>;
  /** Stated by the operator. Without a GPU it bounds the engines' main memory. */
  configuredBytes?: number;
  expected: Partial<Record<EngineKind, Footprint>>;
  /** Ends an idle engine's process for another one; resolves when it has ended. */
  evict: (kind: EngineKind, why: string) => Promise<void>;
  statuses: () => EngineOnCard[];
  log: Logger;
  patienceMs?: number;
  sampleMs?: number;
}

/** The driver keeps a little of what it says there is. */
const usableShare = 0.98;

/**
 * The memory budget of this machine's card: its capacity, the engines as its models, what they hold in fact.
 * Where nobody knows what there is (no GPU that tells, nothing configured) its gates hold nothing back.
 */
export function createDeviceMemory({
  gpu,
  configuredBytes,
  expected,
  evict,
  statuses,
  log,
  patienceMs,
  sampleMs = 5000,
}: DeviceMemoryOptions) {
  /** Bytes by engine as last measured, while its process lives. */
  const held = new Map<EngineKind, number>();
  /** Null until something tells: a driver may be slow to answer the first time. */
  let cardBytes: number | null = null;
  /** Of the card, in use by programs that are not ours. */
  let othersBytes = 0;
  let timer: NodeJS.Timeout | undefined;
  let sampling: Promise<void> | undefined;

  const kinds = Object.keys(expected) as EngineKind[];
  const budget = createMemoryBudget({
    capacityBytes: capacity,
    log,
    ...(patienceMs === undefined ? {} : { patienceMs }),
    models: kinds.map((kind) => ({
      name: kind,
      expected: expected[kind] ?? { residentBytes: 0, workingBytes: 0 },
      yields: kind === 'qwen',
      shared: kind === 'qwen',
    })),
    async evict(name, wanted) {
      log.info({ engine: name, wanted }, `stopping the ${name} engine to make room for ${wanted}`);
      await evict(name as EngineKind, `stopped to make room for ${wanted}; starts with its next request`);
      held.delete(name as EngineKind);
    },
  });

  async function capacity(): Promise<number | null> {
    const isEmpty = () => statuses().every(({ pid }) => pid === null);
    const wasEmpty = isEmpty();
    if (cardBytes === null || wasEmpty) {
      const reading = await gpu.read();
      const total = reading?.totalBytes ?? null;
      cardBytes ??= configuredBytes ?? (total === null ? null : total * usableShare);
      if (reading !== null && reading.usedBytes !== null && wasEmpty && isEmpty())
        othersBytes = reading.usedBytes;
    }
    return cardBytes === null ? null : Math.max(0, cardBytes - othersBytes);
  }

  function gate(kind: EngineKind): MemoryGate {
    if (!kinds.includes(kind)) return noGate;
    return {
      reserve: () => budget.reserveLoad(kind),
      use: async (signal) => ((await capacity()) === null ? () => {} : budget.use(kind, signal)),
      useIfFree: async () => ((await capacity()) === null ? () => {} : budget.useIfFree(kind)),
      loadedOn(device) {
        if (device === 'cpu' && configuredBytes === undefined) budget.elsewhere(kind);
      },
      capacityBytes: capacity,
      left() {
        held.delete(kind);
        budget.left(kind);
      },
      ranOutOfMemory: () => void budget.ranOutOfMemory(kind),
    };
  }

  /**
   * Reads what each engine holds and tells the budget. Readings take a moment: only who was idle before and
   * after them was idle.
   */
  async function sample(): Promise<void> {
    if (cardBytes === null) return;
    const before = statuses().filter(({ pid, loaded }) => pid !== null && loaded !== null);
    const onCard = before.filter(({ loaded }) => loaded?.device !== 'cpu');
    const [processes, reading] =
      onCard.length === 0 ? [null, null] : await Promise.all([gpu.processes(), gpu.read()]);
    const idle = new Set(
      before
        .filter((each) =>
          isSame(
            each,
            statuses().find(({ kind }) => kind === each.kind),
          ),
        )
        .map(({ kind }) => kind),
    );
    const note = ({ kind, pid }: EngineOnCard, bytes: number | undefined) => {
      if (pid === null || bytes === undefined || bytes <= 0) return;
      held.set(kind, bytes);
      budget.measured(kind, bytes, { idle: idle.has(kind) });
    };
    if (configuredBytes !== undefined)
      for (const each of before) if (!onCard.includes(each)) note(each, each.memory?.rssBytes);
    for (const each of onCard) note(each, processes?.get(each.pid ?? 0));
    const used = reading?.usedBytes ?? null;
    if (used === null) return;
    const restOf = (one?: EngineOnCard) =>
      used - onCard.reduce((sum, each) => sum + (each === one ? 0 : (held.get(each.kind) ?? 0)), 0);
    if (processes !== null && onCard.every(({ pid }) => processes.has(pid ?? 0))) {
      if (onCard.every(({ kind }) => idle.has(kind))) othersBytes = Math.max(0, restOf());
      return;
    }
    // Without numbers by process: when all but one engine are idle and known, what is left of the card's use
    // is that one's.
    const [one, ...more] = onCard.filter(({ kind }) => !idle.has(kind) || !held.has(kind));
    if (one === undefined || more.length > 0) return;
    // less than was others' at the start: they have gone since, an earlier run of ours that was still ending
    // for instance
    if (restOf(one) <= othersBytes)
      othersBytes = Math.max(0, restOf(one) - (expected[one.kind]?.residentBytes ?? 0));
    note(one, restOf(one) - othersBytes);
  }

  return {
    gate,
    /** As last measured; undefined when nobody could tell. */
    deviceBytes: (kind: EngineKind): number | undefined => held.get(kind),
    async start(): Promise<void> {
      await capacity();
      timer = setInterval(() => {
        sampling ??= sample()
          .catch((error: unknown) => log.debug({ err: error }, 'could not read the GPU memory in use'))
          .finally(() => {
            sampling = undefined;
          });
      }, sampleMs).unref();
    },
    stop(): void {
      clearInterval(timer);
      budget.stop();
    },
    capacity,
    sample,
    view: budget.view,
  };
}
/** Idle at both times, and nothing computed in between. */
function isSame(before: EngineOnCard, after: EngineOnCard | undefined): boolean {
  return (
    before.state === 'ready' &&
    after?.state === 'ready' &&
    before.pid === after.pid &&
    before.jobsProcessed === after.jobsProcessed &&
    before.errorCount === after.errorCount
  );
}

export type DeviceMemory = ReturnType<typeof createDeviceMemory>;
