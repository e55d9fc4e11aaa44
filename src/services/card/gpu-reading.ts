/** What is known of one GPU at one moment. A field is null when the platform does not tell. */
export interface GpuReading {
  name: string;
  totalBytes: number | null;
  usedBytes: number | null;
  /** 0–1. */
  utilization: number | null;
  temperatureCelsius: number | null;
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
