import { execFile } from 'node:child_process';
import { ownFile, ownLoader } from '../../lib/processes.js';
import type { DownloadTask } from './download.js';
import type { ReferenceRule } from './url-policy.js';

export interface DecodeTask {
  kind: 'decode';
  input: string;
  output: string;
  /** Default: PNG. */
  format?: 'png' | 'webp';
  limits: DecodeLimits;
}

export interface DecodeLimits {
  maxPixels: number;
  /** Width and height at least. */
  minSide: number;
  /** The picture is made smaller until no side is longer. */
  targetSide: number;
  /** Resident memory of the process at most. */
  maxMemoryBytes: number;
}

/** What the process is told, as JSON on its stdin, and what it answers, as one line of JSON on its stdout. */
export type PictureTask = DownloadTask | DecodeTask;
export type PictureAnswer =
  | {
      ok: true;
      /** Of the decoded picture. */ size: { width: number; height: number } | null;
      peakBytes: number;
    }
  /** Without a rule it is nobody's fault: another attempt may succeed. */
  | { ok: false; rule: ReferenceRule | null; problem: string; peakBytes: number };

export interface PictureProcessOptions {
  timeoutMs: number;
  /** Entry of the process, when it is not the project's own. */
  entry?: string;
}

const ownEntry = ownFile('src/services/references/picture-child');
/**
 * Where an operator's own certificates may be named; nothing else of the environment is the process's
 * business.
 */
const trustSettings = ['NODE_EXTRA_CA_CERTS', 'NODE_USE_SYSTEM_CA', 'SSL_CERT_FILE', 'SSL_CERT_DIR'];

/**
 * Does one task with untrusted bytes in a process of its own: downloads a file, or turns one into a plain PNG
 * (8-bit sRGB, upright, first frame, no metadata). A process that crashes or does not end is an answer, too:
 * a picture that kills its decoder cannot be decoded, a server that kills the download may send something
 * better next time.
 */
export function runPictureProcess(
  task: PictureTask,
  { timeoutMs, entry = ownEntry }: PictureProcessOptions,
  signal: AbortSignal,
): Promise<PictureAnswer> {
  return new Promise((resolve, reject) => {
    const env = {
      MALLOC_ARENA_MAX: '2',
      UV_THREADPOOL_SIZE: '2',
      ...(process.platform === 'win32' ? { SystemRoot: 'C:\\Windows' } : {}),
      ...Object.fromEntries(trustSettings.flatMap((name) => [[name, process.env[name]]])),
    };
    const child = execFile(
      process.execPath,
      [...ownLoader, entry],
      { env, timeout: timeoutMs, killSignal: 'SIGKILL', signal, maxBuffer: 1 << 16 },
      (error, stdout) => {
        if (signal.aborted) return reject(signal.reason as Error);
        const answer = error === null ? readAnswer(stdout) : null;
        if (answer !== null) return resolve(answer);
        if (error?.code === 'ENOENT')
          return reject(new Error('the picture process cannot be started', { cause: error }));
        const tooLong = error?.killed === true ? `took longer than ${timeoutMs / 1000} s` : null;
        const [rule, problem] =
          task.kind === 'download'
            ? [null, `its download ${tooLong ?? 'ended with a crash'}`]
            : ([
                'decodable',
                `cannot be decoded: its ${tooLong === null ? 'decoder failed' : `decoding ${tooLong}`}`,
              ] as const);
        resolve({ ok: false, rule, problem, peakBytes: 0 });
      },
    );
    // It may be gone before it has read its task; how it ended is said above.
    child.stdin?.on('error', () => {}).end(JSON.stringify(task));
  });
}

function readAnswer(stdout: string): PictureAnswer | null {
  const line = stdout.trim().split('\n').at(-1) ?? '';
  return line.startsWith('{') ? (JSON.parse(line) as PictureAnswer) : null;
}
