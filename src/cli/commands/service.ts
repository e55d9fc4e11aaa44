import type { Command } from 'commander';
import { ask } from '../client.js';
import { formatFields, formatTable } from '../output.js';
import { oneLine } from '../../lib/printable.js';

export function registerServiceCommands(program: Command): void {
  program
    .command('status')
    .description('state of the workers, of this instance or of all that share its queue')
    .option('--cluster', 'list the other instances too')
    .action((options: { cluster?: boolean }, command: Command) =>
      ask(
        command,
        (client) => client.getWorkerStatus(options.cluster === true ? { scope: 'cluster' } : {}),
        ({ workers, system, ...rest }) => {
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
          return `${formatFields(rest)}\n\n${table}\n\n${formatFields(system)}`;
        },
      ),
    );

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
