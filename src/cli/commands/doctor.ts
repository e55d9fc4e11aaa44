import type { Command } from 'commander';
import { pino } from 'pino';
import { exitCodes, formatTable, print } from '../output.js';
import { clientOf, isJson } from '../client.js';
import { type Config, ConfigError, readConfig } from '../../config.js';
import type { components } from '../../contract/generated.js';
import { createGpuMonitor } from '../../services/card/gpu-monitor.js';
import { probesOfThisMachine } from '../../services/card/index.js';
import { findModelFolders } from '../../services/models/model-folders.js';
import { createVideoEncoder } from '../../lib/video-tools.js';
import { readEnvironment } from '../../lib/environment.js';
import { engineEntry } from '../../services/engines/engine-options.js';
import { modelsDirOf } from '../../services/models/index.js';
import { createSharedStore } from '../../services/queue/index.js';
import { createStorage } from '../../services/storage/index.js';
import { createServiceChecks } from '../../services/operations/checks.js';

type Finding = NonNullable<components['schemas']['WorkerValidation']['details']['findings']>[number];
const marks = { ok: 'ok', warning: 'WARN', error: 'ERROR' } as const;

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check everything the service needs and say what to do about each finding')
    .option('--local', 'check this machine from its environment and .env, without a running service')
    .action(async (options: { local?: boolean }, command: Command) => {
      const findings = options.local === true ? await examineHere() : await askService(command);
      const count = (severity: Finding['severity']) =>
        findings.filter((finding) => finding.severity === severity).length;
      const [errors, warnings] = [count('error'), count('warning')];
      print(isJson(command), { status: errors > 0 ? 'invalid' : 'valid', findings }, () => {
        const rows = findings.map(({ severity, subject, message, cure }) => [
          marks[severity],
          subject,
          message,
          severity === 'ok' ? '' : cure,
        ]);
        const table = formatTable(['STATE', 'SUBJECT', 'FOUND', 'WHAT TO DO'], rows);
        return `${table}\n\n${findings.length} checked, ${errors} errors, ${warnings} warnings`;
      });
      process.exitCode = errors > 0 ? exitCodes.failed : warnings > 0 ? exitCodes.warnings : exitCodes.ok;
    });
}

async function askService(command: Command): Promise<Finding[]> {
  return (await clientOf(command).validateWorker()).details.findings ?? [];
}

/**
 * For a service that does not start. The embedded queue is left alone: it may belong to a running process.
 */
async function examineHere(): Promise<Finding[]> {
  let config: Config;
  try {
    config = readConfig(readEnvironment());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ variable, value, rule }) => ({
      check: 'environment_variables',
      subject: variable,
      severity: 'error',
      message: `is ${value}`,
      cure: `It must be ${rule}.`,
    }));
  }
  // The checks make folders that are not there yet in DATA_DIR.
  process.umask(0o077);
  const store = createSharedStore(config, pino({ level: 'silent' }));
  const checks = createServiceChecks({
    dataDir: config.dataDir,
    gpu: createGpuMonitor({ probes: probesOfThisMachine(readEnvironment()) }),
    folders: await findModelFolders(modelsDirOf(config)),
    engineEntry: engineEntry(),
    videoEncoder: createVideoEncoder({ command: config.ffmpeg }),
    storage: createStorage(config).storage,
    supabaseUrl: config.supabaseUrl,
    supabaseServiceKey: config.supabaseServiceKey,
    ...(store === undefined ? {} : { store }),
  });
  try {
    return (await checks.run()).findings.map(({ latencyMs, ...finding }) => ({
      ...finding,
      ...(latencyMs === undefined ? {} : { latency_ms: latencyMs }),
    }));
  } finally {
    await store?.close();
  }
}
