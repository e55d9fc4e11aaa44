import type { Command } from 'commander';
import { formatFields, formatTable, print } from '../output.js';
import { clientOf, isJson } from '../client.js';

interface WorkerStatusView {
  status: string;
  workers: Record<
    string,
    {
      status: string;
      uptime: number;
      jobs_processed: number;
      last_job_time: number | null;
      memory_usage: string;
      error_count: number;
      trouble?: string | null;
      reason?: string | null;
    }
  >;
  system: Record<string, unknown>;
}

export function registerServiceCommands(program: Command): void {
  program
    .command('status')
    .description('state of the workers, of this instance or of all that share its queue')
    .option('--cluster', 'list the other instances too')
    .action(async (options: { cluster?: boolean }, command: Command) => {
      const status = await clientOf(command).request<WorkerStatusView>(
        'GET',
        `/worker/status${options.cluster ? '?scope=cluster' : ''}`,
      );
      print(isJson(command), status, () => {
        const { workers, system, ...rest } = status;
        const table = formatTable(
          ['WORKER', 'STATUS', 'UPTIME', 'JOBS', 'LAST JOB', 'MEMORY', 'ERRORS', 'WHY'],
          Object.entries(workers).map(([name, worker]) => [
            name,
            worker.status,
            `${Math.round(worker.uptime)} s`,
            worker.jobs_processed,
            worker.last_job_time === null ? null : new Date(worker.last_job_time * 1000).toISOString(),
            worker.memory_usage,
            worker.error_count,
            worker.trouble ?? worker.reason ?? '',
          ]),
        );
        return `${formatFields(rest)}\n\n${table}\n\n${formatFields(system)}`;
      });
    });

  program
    .command('capabilities')
    .description('job types, limits, models and devices; what is off and why')
    .action(async (_options: unknown, command: Command) => {
      const capabilities = await clientOf(command).request<Record<string, unknown>>('GET', '/capabilities');
      print(isJson(command), capabilities, () => formatTree(capabilities));
    });

  program
    .command('enhance')
    .description('rewrite a prompt with more detail; prints the new prompt')
    .argument('<prompt>')
    .option('--model <model>', 'qwen_base or qwen_instruct')
    .option('--session <id>', 'conversation to continue')
    .option('--context <text>', 'what the conversation is about')
    .action(
      async (
        prompt: string,
        options: { model?: string; session?: string; context?: string },
        command: Command,
      ) => {
        const body = Object.fromEntries(
          Object.entries({
            prompt,
            model: options.model,
            session_id: options.session,
            conversation_context: options.context,
          }).filter(([, value]) => value !== undefined),
        );
        const answer = await clientOf(command).request<{ enhanced_prompt: string }>('POST', '/enhance', {
          body,
        });
        print(isJson(command), answer, () => answer.enhanced_prompt);
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
      const label = key === '-' ? `${indent}-` : `${indent}${key}:`;
      if (isPlain(item)) return `${label} ${String(item)}`;
      if (Array.isArray(item) && item.every(isPlain))
        return `${label} ${item.length === 0 ? 'none' : item.join(', ')}`;
      return `${label}\n${formatTree(item, depth + 1)}`;
    })
    .join('\n');
}
