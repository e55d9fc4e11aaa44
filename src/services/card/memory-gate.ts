import type { Device } from '../../inference/engine-protocol.js';

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
