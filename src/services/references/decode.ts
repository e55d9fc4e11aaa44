import { execFile } from 'node:child_process';
import { ownFile, ownLoader } from '../../lib/processes.js';

export interface DecodeOptions {
  limits: DecodeLimits;
  timeoutMs: number;
  /** Compiled entry of the decoder process. */
  entry?: string;
}

/**
 * Turns an untrusted picture file into a plain PNG (8-bit sRGB, upright, first frame, no metadata) in a
 * process of its own. A decoder that crashes or does not end counts as a picture that cannot be decoded.
 */
export function decodePicture(
  input: string,
  output: string,
  { limits, timeoutMs, entry = ownFile('src/services/references/decode-child') }: DecodeOptions,
  signal: AbortSignal,
): Promise<DecodeAnswer> {
  return new Promise((resolve, reject) => {
    const env = {
      MALLOC_ARENA_MAX: '2',
      UV_THREADPOOL_SIZE: '2',
      ...(process.platform === 'win32' ? { SystemRoot: 'C:\\Windows' } : {}),
    };
    execFile(
      process.execPath,
      [...ownLoader, entry, input, output, JSON.stringify(limits)],
      { env, timeout: timeoutMs, killSignal: 'SIGKILL', signal, maxBuffer: 1 << 16 },
      (error, stdout) => {
        if (signal.aborted) return reject(signal.reason as Error);
        const lastLine = stdout.trim().split('\n').at(-1) ?? '';
        if (error === null && lastLine.startsWith('{')) return resolve(JSON.parse(lastLine) as DecodeAnswer);
        if (error !== null && error.killed !== true && error.signal === undefined && error.code === 'ENOENT')
          return reject(new Error('the decoder process cannot be started', { cause: error }));
        const reason =
          error?.killed === true
            ? `its decoding took longer than ${timeoutMs / 1000} s`
            : 'its decoder failed';
        resolve({ ok: false, rule: 'decodable', problem: `cannot be decoded: ${reason}`, peakBytes: 0 });
      },
    );
  });
}

/**
 * What the decoder process is told, as its third argument, and what it answers, as one line of JSON on
 * stdout.
 */
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
