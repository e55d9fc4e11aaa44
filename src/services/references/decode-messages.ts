/** What the decoder process is told, as its third argument, and what it answers, as one line of JSON on stdout. */
export interface DecodeLimits {
  maxPixels: number;
  /** Width and height at least. */
  minSide: number;
  /** The picture is made smaller until no side is longer. */
  targetSide: number;
  /** Resident memory of the process at most. */
  maxMemoryBytes: number;
}

export type DecodeAnswer =
  | { ok: true; width: number; height: number; peakBytes: number }
  | { ok: false; rule: 'type' | 'pixels' | 'decodable'; problem: string; peakBytes: number };
