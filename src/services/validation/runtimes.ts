import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { projectRoot } from '../../project-root.js';
import { videoToolsCure } from '../../video-tools.js';
import type { VideoEncoder } from '../video-encoder.js';
import { checkProgram } from './checks.js';
import type { Check, Finding } from './types.js';

const run = promisify(execFile);

/** What each runtime must do to count as loaded; printed text is shown in the report. */
const probes = {
  'onnxruntime-node': "const { listSupportedBackends } = await import('onnxruntime-node'); console.log(listSupportedBackends().map(({ name }) => name).join(', '))",
  // It tries its binary in a child process, which must not inherit this one's --eval.
  'node-llama-cpp': "process.execArgv.length = 0; const { getLlama } = await import('node-llama-cpp'); const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false }); console.log('llama.cpp ' + llama.llamaCppRelease.release); process.exit(0)",
  sharp: "const { default: sharp } = await import('sharp'); console.log('libvips ' + sharp.versions.vips)",
} as const;
export type NativeRuntime = keyof typeof probes;

/** Loads native runtimes, each in a process of its own: one that crashes or blocks while it loads must not do so here. */
export function checkNativeRuntimes(names: readonly NativeRuntime[] = Object.keys(probes) as NativeRuntime[], source: Record<NativeRuntime, string> = probes): Check {
  return async (signal) => Promise.all(names.map(async (name): Promise<Finding> => {
    const subject = `${name} (native)`;
    try {
      const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', source[name]], { cwd: projectRoot(), signal, killSignal: 'SIGKILL' });
      return { check: 'python_dependencies', subject, severity: 'ok', message: stdout.trim() };
    } catch (error) {
      const { stderr, message } = error as { stderr?: string; message: string };
      const line = stderr?.split('\n').find((text) => /error/i.test(text))?.trim() ?? message.split('\n')[0] ?? 'unknown';
      return { check: 'python_dependencies', subject, severity: 'error', message: `does not load: ${line}`, cure: 'Run npm ci on this machine; its platform and C library must be those the package was installed for.' };
    }
  }));
}

/** Without an encoder pictures are still made. */
export function checkFfmpeg(encoder: Pick<VideoEncoder, 'find'>): Check {
  return checkProgram('ffmpeg', async (signal) => (await encoder.find(signal))?.version ?? null, { severity: 'warning', message: 'not found: videos cannot be encoded', cure: videoToolsCure });
}
