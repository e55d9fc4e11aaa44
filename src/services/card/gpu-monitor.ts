/** What is known of one GPU at one moment. A field is null when the platform does not tell. */
export interface GpuReading {
  name: string;
  totalBytes: number | null;
  usedBytes: number | null;
  /** 0–1. */
  utilization: number | null;
  temperatureCelsius: number | null;
  powerWatts: number | null;
  driver: string | null;
}

/**
 * Where readings come from: `nvidia-smi`, `/sys`, or a simulated card in tests. Null: there is no GPU to be
 * seen.
 */
export interface GpuProbe {
  readonly source: string;
  read(): Promise<GpuReading | null>;
  /** Device memory by process id, bytes; null when the platform does not tell. */
  processes?(): Promise<ReadonlyMap<number, number> | null>;
}

interface GpuMonitorOptions {
  /** Asked in order; the first that sees a GPU is kept. */
  probes: GpuProbe[];
  /** Total memory stated by the operator; wins over what a probe reads. */
  configuredTotalBytes?: number;
  /** A reading younger than this is handed out again: routes must not start a process per request. */
  maxAgeMs?: number;
  now?: () => number;
}

export type GpuMonitor = ReturnType<typeof createGpuMonitor>;

/**
 * The one place that knows the GPU: `/worker/*`, metrics, job metadata and the memory budget all read it
 * here.
 */
export function createGpuMonitor({
  probes,
  configuredTotalBytes,
  maxAgeMs = 2000,
  now = () => performance.now(),
}: GpuMonitorOptions) {
  let chosen: GpuProbe | undefined;
  let cached: { atMs: number; reading: GpuReading | null } | undefined;
  let pending: Promise<GpuReading | null> | undefined;

  async function ask(): Promise<GpuReading | null> {
    for (const probe of chosen === undefined ? probes : [chosen]) {
      const reading = await probe.read();
      if (reading === null) continue;
      chosen = probe;
      return configuredTotalBytes === undefined ? reading : { ...reading, totalBytes: configuredTotalBytes };
    }
    return null;
  }

  return {
    /** Latest reading, at most `maxAgeMs` old; concurrent callers share one probe run. Null: no GPU. */
    async read(): Promise<GpuReading | null> {
      if (cached !== undefined && now() - cached.atMs < maxAgeMs) return cached.reading;
      pending ??= ask()
        .then((reading) => {
          cached = { atMs: now(), reading };
          return reading;
        })
        .finally(() => {
          pending = undefined;
        });
      return pending;
    },
    /** Device memory by process id, read now; null when the platform does not tell. */
    async processes(): Promise<ReadonlyMap<number, number> | null> {
      return (await chosen?.processes?.()) ?? null;
    },
    /** Name of the probe in use, for validation; null before the first reading or without a GPU. */
    source: () => chosen?.source ?? null,
  };
}
