import { type Command, Option } from 'commander';
import type { Client, Job } from '../../../client/index.js';
import { followJob, formatExplanation } from '../job-view.js';
import { CliError, exitCodes, formatFields, formatTable, print, shorten, toInteger } from '../output.js';
import { ask, clientOf, isJson } from '../client.js';
import { createProgressDisplay, describeProgress, silentProgress } from '../progress-view.js';
import { oneLine } from '../../lib/printable.js';
import { jobTypes, queueNames } from '../../services/catalogue.js';

export function registerJobs(program: Command): void {
  const jobs = program.command('jobs').description('list, show, watch and cancel jobs');

  jobs
    .command('list', { isDefault: true })
    .description('jobs, newest first')
    .addOption(
      new Option('--status <status>', 'only jobs in this state').choices([
        'queued',
        'processing',
        'completed',
        'failed',
        'cancelled',
      ]),
    )
    .addOption(new Option('--type <type>', 'only jobs of this type').choices(jobTypes))
    .option('--limit <count>', 'at most this many', toInteger, 20)
    .option('--cursor <cursor>', 'where the page before ended')
    .action((options: Parameters<Client['listJobs']>[0], command: Command) =>
      ask(
        command,
        (client) => client.listJobs(options),
        ({ jobs: page, next_cursor: next }) => {
          if (page.length === 0) return 'No jobs.';
          const table = formatTable(
            ['ID', 'TYPE', 'STATUS', 'PROGRESS', 'ATTEMPTS', 'CREATED'],
            page.map((job) => [
              job.id,
              job.type,
              job.status,
              `${Math.round(job.progress.fraction * 100)} %`,
              job.attempts,
              job.created_at,
            ]),
          );
          return next === undefined ? table : `${table}\nMore: --cursor ${oneLine(next)}`;
        },
      ),
    );

  jobs
    .command('show')
    .description('everything known of one job')
    .argument('<id>')
    .action((id: string, _options: unknown, command: Command) =>
      ask(command, (client) => client.getJob({ id }), formatJob),
    );

  jobs
    .command('watch')
    .description('follow a job to its end; leaving does not cancel it')
    .argument('<id>')
    .action(async (id: string, _options: unknown, command: Command) => {
      const display = isJson(command) ? silentProgress : createProgressDisplay();
      const job = await followJob(clientOf(command), id, display, new AbortController().signal).finally(() =>
        display.stop(),
      );
      print(isJson(command), job, () => formatJob(job));
      if (job.status !== 'completed')
        throw new CliError(
          `The job ${job.status === 'failed' ? 'failed' : 'was cancelled'}`,
          exitCodes.failed,
        );
    });

  jobs
    .command('cancel')
    .description('cancel a job, waiting or running')
    .argument('<id>')
    .action((id: string, _options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.cancelJob({ id }),
        (job) => `${oneLine(job.id)}: ${job.status === 'processing' ? 'told to stop' : oneLine(job.status)}`,
      ),
    );

  jobs.addHelpText(
    'after',
    `
Examples:
  $ ourvidz jobs list --status failed
  $ ourvidz jobs show 3f8c1d2a-52c5-4e0d-9a51-0c8a4d1f6b7e
  $ ourvidz jobs cancel 3f8c1d2a-52c5-4e0d-9a51-0c8a4d1f6b7e`,
  );
}

function formatJob(job: Job): string {
  const { progress, assets, metadata, ...fields } = job;
  const lines = [
    formatFields({
      ...fields,
      progress: `${Math.round(progress.fraction * 100)} %, ${describeProgress(progress)}`,
    }),
  ];
  if (assets.length > 0) lines.push('assets', ...assets.map((asset) => `  ${oneLine(asset)}`));
  const { explain, ...rest } = metadata;
  const known = formatFields(
    Object.fromEntries(
      Object.entries(rest).map(([key, value]) => [
        key,
        shorten(typeof value === 'string' ? value : JSON.stringify(value), 160),
      ]),
    ),
  );
  if (known !== '') lines.push('metadata', known.replace(/^/gm, '  '));
  const explanation = formatExplanation(explain);
  if (explanation !== '') lines.push('explain', explanation.replace(/^/gm, '  '));
  return lines.join('\n');
}

export function registerDeadLetters(program: Command): void {
  const deadLetters = program
    .command('dead-letters')
    .description('payloads that were given up: list them, put them back, delete them');

  deadLetters
    .command('list', { isDefault: true })
    .description('dead letters with the reason, newest first')
    .addOption(new Option('--queue <queue>', 'only of this queue').choices(queueNames))
    .option('--limit <count>', 'at most this many', toInteger, 50)
    .action((options: Parameters<Client['listDeadLetters']>[0], command: Command) =>
      ask(
        command,
        (client) => client.listDeadLetters(options),
        ({ dead_letters: letters }) =>
          letters.length === 0
            ? 'No dead letters.'
            : formatTable(
                ['ID', 'QUEUE', 'JOB', 'ATTEMPTS', 'AT', 'REASON', 'PAYLOAD'],
                letters.map(({ id, queue, job_id: job, attempts, at, reason, payload }) => [
                  id,
                  queue,
                  job,
                  attempts,
                  at,
                  shorten(reason, 60),
                  shorten(payload, 40),
                ]),
              ),
      ),
    );

  deadLetters
    .command('requeue')
    .description('put the payload back at the end of its queue with a fresh attempt count')
    .argument('<id>')
    .action((id: string, _options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.requeueDeadLetter({ id }),
        () => `${id}: back in its queue`,
      ),
    );

  deadLetters
    .command('drop')
    .description('delete the payload for good')
    .argument('<id>')
    .action((id: string, _options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.dropDeadLetter({ id }),
        () => `${id}: deleted`,
      ),
    );
}

export function registerCallbacks(program: Command): void {
  const callbacks = program
    .command('callbacks')
    .description('callbacks the receiver never accepted: list them, send them again');

  callbacks
    .command('list', { isDefault: true })
    .description('callbacks that were given up, with the last error')
    .option('--limit <count>', 'at most this many', toInteger, 50)
    .action((options: { limit: number }, command: Command) =>
      ask(
        command,
        (client) => client.listCallbacks(options),
        ({ pending, dead }) => {
          const heading = `${pending} waiting to be sent, ${dead.length} given up`;
          if (dead.length === 0) return heading;
          const rows = dead.map((entry) => [
            entry.id,
            entry.event,
            entry.attempts,
            entry.created_at,
            shorten(entry.last_error ?? '', 80),
          ]);
          return `${heading}\n${formatTable(['ID', 'EVENT', 'ATTEMPTS', 'CREATED', 'LAST ERROR'], rows)}`;
        },
      ),
    );

  callbacks
    .command('retry')
    .description('send given-up callbacks again: one, or all')
    .argument('[id]')
    .action(async (id: string | undefined, _options: unknown, command: Command) => {
      const answer = await clientOf(command).retryCallbacks({ body: id === undefined ? {} : { id } });
      print(isJson(command), answer, () => `${answer.retried} put back in line`);
      if (id !== undefined && answer.retried === 0)
        throw new CliError(`There is no given-up callback ${id}`, exitCodes.notFound);
    });
}
