import { pino } from 'pino';
import { ownFile } from '../../src/lib/processes.js';
import type { EngineKind } from '../../src/inference/engine-protocol.js';
import type { SdxlGenerateParams } from '../../src/inference/generation.js';
import type { EngineStatus } from '../../src/services/engines/engine-status.js';
import type { SupervisorOptions } from '../../src/services/engines/engine-options.js';

export const testEngineEntry = ownFile('test/engines/test-engine');
export const silentLog = pino({ level: 'silent' });

/** Options for a supervised test engine with limits short enough for a test. */
export function testEngine(
  options: Partial<SupervisorOptions> & { kind?: EngineKind; onLoad?: string } = {},
): SupervisorOptions {
  const { onLoad, ...rest } = options;
  return {
    kind: 'sdxl',
    entry: testEngineEntry,
    env: { PATH: process.env['PATH'] },
    log: silentLog,
    load: { modelDir: 'none', device: 'cpu', threads: 1, options: onLoad === undefined ? {} : { onLoad } },
    restartBaseMs: 50,
    restartMaxMs: 400,
    restartJitter: 0,
    heartbeatTimeoutMs: 1500,
    cancelGraceMs: 400,
    helloTimeoutMs: 20_000,
    ...rest,
  };
}

/** A status to change single facts of. */
export function engineStatus(fields: Partial<EngineStatus> = {}): EngineStatus {
  return {
    kind: 'sdxl',
    state: 'ready',
    pid: 1,
    uptimeSeconds: 1,
    jobsProcessed: 0,
    lastJobAtMs: null,
    errorCount: 0,
    restarts: 0,
    loaded: null,
    memory: null,
    reason: null,
    resting: false,
    lastOperation: null,
    failuresInRow: 0,
    silentMs: null,
    recovering: false,
    nextStartAtMs: null,
    loadProblem: null,
    lastExit: null,
    ...fields,
  };
}

export function generateParams(
  prompt: string,
  outputDir: string,
  rest: Partial<SdxlGenerateParams> = {},
): SdxlGenerateParams {
  return {
    jobId: 'job',
    outputDir,
    prompt,
    negativePrompt: null,
    parseWeights: true,
    weights: [],
    steps: 4,
    guidanceScale: 5,
    scheduler: 'dpmpp_2m_karras',
    width: 64,
    height: 64,
    seed: 1,
    numImages: 1,
    format: 'png',
    previewEverySteps: 0,
    parametersText: '',
    explain: false,
    ...rest,
  };
}

export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 15_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}
