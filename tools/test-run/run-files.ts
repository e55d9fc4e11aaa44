import { spawn } from 'node:child_process';
import { PassThrough, type Readable } from 'node:stream';

export interface RunOptions {
  cwd: string;
  /** Options of Node, such as a loader. */
  nodeArgs?: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** Files at once. */
  jobs: number;
}

/** What a file has unless it sets a limit of its own; tap ends it, and says where it stood. */
const timeoutSeconds = 120;
/** A file that is still there then hangs where tap cannot end it. */
const killAfterMs = 15 * 60_000;

/** Runs each file in a process of its own; the stream is TAP, each file a subtest, in the order they end. */
export function runFiles(files: readonly string[], options: RunOptions): Readable {
  const out = new PassThrough();
  const waiting = [...files];
  let done = 0;
  out.write(`TAP version 14\n1..${files.length}\n`);
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const started = performance.now();
      const { output, failure } = await runFile(file, options);
      const ms = Math.round(performance.now() - started);
      const indented = output
        .replace(/^TAP version \d+\n/, '')
        .replace(/^(?=.)/gm, '    ')
        .trimEnd();
      out.write(`# Subtest: ${file}\n${indented}\n`);
      // What broke off between two tests left no failed one to count.
      if (failure !== '' && !/^ *not ok/m.test(output)) out.write(`    not ok - the file ${failure}\n`);
      out.write(`${failure === '' ? 'ok' : 'not ok'} ${(done += 1)} - ${file} # time=${ms}ms\n`);
    }
  };
  void Promise.all(Array.from({ length: options.jobs }, work)).then(() => out.end());
  return out;
}

/** @returns what it printed, and how it ended when not well: '' is well */
function runFile(
  file: string,
  { cwd, nodeArgs = [], env = {} }: RunOptions,
): Promise<{ output: string; failure: string }> {
  const child = spawn(process.execPath, [...nodeArgs, file], {
    cwd,
    env: { TAP_TIMEOUT: String(timeoutSeconds), ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const limit = setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      resolve({ output, failure: code === 0 ? '' : `ended with ${code ?? signal}` });
    });
  });
}
