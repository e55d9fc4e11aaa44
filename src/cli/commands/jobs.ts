import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import type { Client, Job, JobPayload } from '../../../client/index.js';
import { describeProgress, followJob, formatExplanation } from '../job-view.js';
import {
  CliError,
  exitCodes,
  formatFields,
  formatTable,
  isWatched,
  print,
  redraw,
  shorten,
  toInteger,
} from '../output.js';
import { ask, clientOf, isJson, wholeCallback, wholeId } from '../client.js';
import { createProgressDisplay, silentProgress } from '../progress-view.js';
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
    .addOption(new Option('--queue <queue>', 'only jobs of this queue').choices(queueNames))
    .option('--user <id>', 'only jobs of this user')
    .option('--text <text>', 'only jobs with this in their prompt')
    .option('--limit <count>', 'at most this many', toInteger, 20)
    .option('--cursor <cursor>', 'where the page before ended')
    .option('--watch', 'show them again every two seconds, until Ctrl-C')
    .action(
      async (
        { user, watch, ...options }: ListOptions & { user?: string; watch?: true },
        command: Command,
      ) => {
        const query = { ...options, ...(user === undefined ? {} : { user_id: user }) };
        if (watch === undefined) return ask(command, (client) => listJobs(client, query), formatJobs);
        if (isJson(command)) throw new CliError('--watch is for people; --json once', exitCodes.usage);
        const client = clientOf(command);
        for (;;) {
          redraw(formatJobs(await listJobs(client, query)));
          await sleep(2000);
        }
      },
    );

  jobs
    .command('show')
    .description('everything known of one job')
    .argument('<id>')
    .action((id: string, _options: unknown, command: Command) =>
      ask(command, async (client) => client.getJob({ id: await wholeId(client, id) }), formatJob),
    );

  jobs
    .command('watch')
    .description('follow a job to its end; leaving does not cancel it')
    .argument('<id>')
    .action(async (begun: string, _options: unknown, command: Command) => {
      const id = await wholeId(clientOf(command), begun);
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
    .description('cancel a job, waiting or running, or all that meet what is named')
    .argument('[id]')
    .addOption(new Option('--state <state>', 'all in this state').choices(['queued', 'processing']))
    .addOption(new Option('--type <type>', 'all of this type').choices(jobTypes))
    .addOption(new Option('--queue <queue>', 'all of this queue').choices(queueNames))
    .option('--user <id>', 'all of this user')
    .option('--text <text>', 'all with this in their prompt')
    .action((id: string | undefined, options: CancelOptions, command: Command) => {
      const isMany = Object.keys(options).length > 0;
      if (isMany === (id !== undefined))
        throw new CliError(
          'Name one job by its id, or several by --state, --type, --queue, --user or --text',
          exitCodes.usage,
        );
      return id === undefined
        ? ask(
            command,
            (client) => cancelMany(client, options),
            ({ cancelled, stopping }) => `${cancelled} cancelled, ${stopping} told to stop`,
          )
        : ask(
            command,
            async (client) => client.cancelJob({ id: await wholeId(client, id) }),
            (job) =>
              `${oneLine(job.id)}: ${job.status === 'processing' ? 'told to stop' : oneLine(job.status)}`,
          );
    });

  jobs.addHelpText(
    'after',
    `
Examples:
  $ ourvidz jobs list --status failed
  $ ourvidz jobs show 3f8c1d2a
  $ ourvidz jobs cancel --state queued --text lighthouse
An id may be shortened as long as only one job begins so.`,
  );
}

type ListOptions = NonNullable<Parameters<Client['listJobs']>[0]>;

/** A page; a search goes on until it is full, however many jobs have to be looked at. */
async function listJobs(client: Client, options: ListOptions): ReturnType<Client['listJobs']> {
  const { limit = 20 } = options;
  const page = await client.listJobs(options);
  while (page.next_cursor !== undefined && page.jobs.length < limit) {
    const rest = { limit: limit - page.jobs.length, cursor: page.next_cursor };
    const { jobs, next_cursor: next } = await client.listJobs({ ...options, ...rest });
    page.jobs.push(...jobs);
    if (next === undefined) delete page.next_cursor;
    else page.next_cursor = next;
  }
  return page;
}

interface CancelOptions {
  state?: 'queued' | 'processing';
  type?: JobPayload['type'];
  queue?: Job['queue'];
  user?: string;
  text?: string;
}

async function cancelMany(client: Client, { state, user, ...others }: CancelOptions) {
  const body = {
    ...others,
    ...(state === undefined ? {} : { status: state }),
    ...(user === undefined ? {} : { user_id: user }),
  };
  const sum = { cancelled: 0, stopping: 0 };
  for (let more = true; more;) {
    const done = await client.cancelJobs({ body });
    sum.cancelled += done.cancelled;
    sum.stopping += done.stopping;
    more = done.more && done.cancelled + done.stopping > 0;
  }
  return sum;
}

/** On a terminal ids are short: the other commands take the beginning of one. */
function formatJobs({ jobs, next_cursor: next }: Awaited<ReturnType<typeof listJobs>>): string {
  if (jobs.length === 0) return 'No jobs.';
  const cut = (text: string, length: number) => (isWatched() ? text.slice(0, length) : text);
  const table = formatTable(
    ['ID', 'TYPE', 'STATUS', 'PROGRESS', 'TRIES', 'CREATED', 'PROMPT'],
    jobs.map((job) => [
      cut(job.id, 8),
      job.type,
      job.status,
      job.waiting?.message ?? `${Math.round(job.progress.fraction * 100)} %`,
      job.attempts,
      isWatched() ? job.created_at.slice(5, 16).replace('T', ' ') : job.created_at,
      shorten(job.prompt, 40),
    ]),
  );
  return next === undefined ? table : `${table}\nMore: --cursor ${oneLine(next)}`;
}

function formatJob(job: Job): string {
  const { progress, assets, metadata, request: _request, waiting, history, ...fields } = job;
  const lines = [
    formatFields({
      ...fields,
      waits: waiting?.message,
      progress: `${Math.round(progress.fraction * 100)} %, ${describeProgress(progress)}`,
    }),
  ];
  for (const { attempt, outcome, started_at: began, ended_at: ended, worker_id: worker, error } of history ??
    [])
    lines.push(
      oneLine(
        `attempt ${attempt}  ${outcome}, ${began} to ${ended}${worker === undefined ? '' : ` on ${worker}`}`,
      ) + (error === undefined ? '' : `: ${oneLine(error)}`),
    );
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
      const client = clientOf(command);
      const body = id === undefined ? {} : { id: await wholeCallback(client, id) };
      const answer = await client.retryCallbacks({ body });
      print(isJson(command), answer, () => `${answer.retried} put back in line`);
      if (id !== undefined && answer.retried === 0)
        throw new CliError(`There is no given-up callback ${id}`, exitCodes.notFound);
    });
}
