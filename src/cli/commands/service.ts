import { Argument, type Command } from 'commander';
import { pino } from 'pino';
import { ask, clientOf, isJson } from '../client.js';
import { exitCodes, formatFields, formatTable, print, toInteger } from '../output.js';
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
import { createRoomWatch } from '../../lib/data-folder.js';
import { oneLine } from '../../lib/printable.js';

export function registerServiceCommands(program: Command): void {
  program
    .command('status')
    .description('what is wrong and what to do, and the state of the workers; exit code 0: nothing is wrong')
    .option('--cluster', 'list the other instances too')
    .action(async (options: { cluster?: boolean }, command: Command) => {
      const status = await clientOf(command).getWorkerStatus(
        options.cluster === true ? { scope: 'cluster' } : {},
      );
      const { workers, system, troubles, ...rest } = status;
      print(isJson(command), status, () => {
        const table = formatTable(
          ['WORKER', 'STATE', 'UPTIME', 'JOBS', 'LAST JOB', 'MEMORY', 'ERRORS', 'WHY'],
          Object.entries(workers).map(([name, worker]) => [
            name,
            worker.state,
            `${Math.round(worker.uptime)} s`,
            worker.jobs_processed,
            worker.last_job_time,
            worker.memory_usage,
            worker.error_count,
            worker.trouble ?? worker.reason ?? '',
          ]),
        );
        return [formatFields(rest), table, formatFields(system), formatTroubles(troubles)].join('\n\n');
      });
      const isWrong = troubles.some(({ severity }) => severity !== 'warning');
      process.exitCode = isWrong ? exitCodes.failed : troubles.length > 0 ? exitCodes.warnings : exitCodes.ok;
    });

  program
    .command('capabilities')
    .description('job types, limits, models and devices; what is off and why')
    .action((_options: unknown, command: Command) =>
      ask(command, (client) => client.getCapabilities(), formatTree),
    );

  program
    .command('enhance')
    .description('rewrite a prompt with more detail; prints the new prompt')
    .argument('<prompt>')
    .option('--model <model>', 'qwen_base or qwen_instruct')
    .option('--session <id>', 'conversation to continue')
    .option('--context <text>', 'what the conversation is about')
    .action(
      (
        prompt: string,
        options: { model?: 'qwen_base' | 'qwen_instruct'; session?: string; context?: string },
        command: Command,
      ) => {
        const { model, session, context } = options;
        const body = {
          prompt,
          ...(model === undefined ? {} : { model }),
          ...(session === undefined ? {} : { session_id: session }),
          ...(context === undefined ? {} : { conversation_context: context }),
        };
        return ask(
          command,
          (client) => client.enhancePrompt({ body }),
          (answer) => answer.enhanced_prompt,
        );
      },
    );
}

type Trouble = components['schemas']['Trouble'];

function formatTroubles(troubles: readonly Trouble[]): string {
  const entries = troubles.map(({ severity, code, what, cause, cure, since, next_try_at: next }) => {
    const again = next === undefined ? '' : `\n  next try  ${oneLine(next)}`;
    return (
      `${severity.toUpperCase()}  ${oneLine(what)}  (${oneLine(code)}, since ${oneLine(since)})\n` +
      `  cause     ${oneLine(cause)}\n  cure      ${oneLine(cure)}${again}`
    );
  });
  return troubles.length === 0 ? 'Nothing is wrong.' : entries.join('\n');
}

const engineKinds = ['sdxl', 'wan', 'qwen'] as const;

/** The processes that compute: what one wrote, over restarts, and a new start for it. */
export function registerEngines(program: Command): void {
  const engine = program.command('engine').description('read what an engine wrote, or start it anew');

  engine
    .command('logs')
    .description('last lines of an engine, how it last ended among them; --json for programs')
    .addArgument(new Argument('<engine>').choices(engineKinds))
    .option('--lines <count>', 'at most this many', toInteger, 50)
    .action((id: string, { lines }: { lines: number }, command: Command) =>
      ask(
        command,
        async (client) => {
          const logs = await client.getWorkerLogs({ worker_id: id });
          return { ...logs, lines: lines > 0 ? logs.lines.slice(-lines) : [] };
        },
        ({ lines: written, last_exit: end }) => {
          const how = [
            end?.stage && `in ${end.stage}`,
            end?.signal ?? (end?.exit_code && `code ${end.exit_code}`),
          ];
          return [
            ...(end
              ? [`Last ended ${end.at}: ${end.reason} (${how.filter(Boolean).join(', ') || 'no code'})`]
              : []),
            ...(written.length === 0 ? ['It has written nothing.'] : written),
          ]
            .map(oneLine)
            .join('\n');
        },
      ),
    );

  engine
    .command('restart')
    .description('start an engine anew, after what it draws')
    .addArgument(new Argument('<engine>').choices(engineKinds))
    .option('--force', 'at once: what it draws is drawn again')
    .action((id: string, { force = false }: { force?: boolean }, command: Command) =>
      ask(
        command,
        (client) => client.restartWorker({ worker_id: id, force }),
        (answer) =>
          `${oneLine(answer.worker_id)} is restarting: ready in about ${oneLine(answer.estimated_startup_time)}`,
      ),
    );
}

/** Nested values as indented `key: value` lines; lists of plain values on one line. */
function formatTree(value: unknown, depth = 0): string {
  const indent = '  '.repeat(depth);
  const isPlain = (item: unknown) => item === null || typeof item !== 'object';
  const entries = Array.isArray(value)
    ? value.map((item): [string, unknown] => ['-', item])
    : Object.entries(value as Record<string, unknown>);
  return entries
    .map(([key, item]) => {
      const label = key === '-' ? `${indent}-` : `${indent}${oneLine(key)}:`;
      if (isPlain(item)) return `${label} ${oneLine(String(item))}`;
      if (Array.isArray(item) && item.every(isPlain))
        return `${label} ${item.length === 0 ? 'none' : oneLine(item.join(', '))}`;
      return `${label}\n${formatTree(item, depth + 1)}`;
    })
    .join('\n');
}

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
    room: createRoomWatch(config.dataDir),
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
