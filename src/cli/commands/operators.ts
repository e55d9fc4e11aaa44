import { type Command, Option } from 'commander';
import type { Client } from '../../../client/index.js';
import { oneLine } from '../../lib/printable.js';
import { queueNames } from '../../services/catalogue.js';
import { ask, wholeInstance, wholeLetter } from '../client.js';
import { CliError, exitCodes, formatTable, shorten, toInteger } from '../output.js';

type QueueState = Awaited<ReturnType<Client['pauseQueue']>>;

/** What is held, and what was given up. */
export function registerHolds(program: Command): void {
  const queue = program.command('queue').description('what waits; pause a queue, and take from it again');

  queue
    .command('list', { isDefault: true })
    .description('both queues: what waits, and what keeps it')
    .action((_options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.listQueues(),
        ({ queues }) =>
          formatTable(
            ['QUEUE', 'WAITING', 'DELAYED', 'RUNNING', 'OLDEST', 'EMPTY IN', 'STATE'],
            queues.map((state) => [
              state.queue,
              state.waiting,
              state.delayed,
              state.running,
              secondsOf(state.oldest_age_seconds),
              secondsOf(state.empty_in_seconds),
              stateOf(state),
            ]),
          ),
      ),
    );

  queue
    .command('pause')
    .description('take no more jobs from it, anywhere, until it is resumed; what runs goes on')
    .argument('<queue>', queueNames.join(' or '))
    .option('--reason <text>', 'for whoever wonders')
    .action((name: string, { reason }: { reason?: string }, command: Command) =>
      ask(
        command,
        (client) => client.pauseQueue({ queue: asQueue(name), body: bodyOf(reason) }),
        (state) => oneLine(`${state.queue}: ${stateOf(state)}`),
      ),
    );

  queue
    .command('resume')
    .description('take jobs from it again')
    .argument('<queue>', queueNames.join(' or '))
    .action((name: string, _options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.resumeQueue({ queue: asQueue(name) }),
        (state) => oneLine(`${state.queue}: ${stateOf(state)}`),
      ),
    );

  const instance = program
    .command('instance')
    .description('services that share the queue: list them, drain one, let it take jobs again');

  instance
    .command('list', { isDefault: true })
    .description('every instance, and whether it takes jobs')
    .action((_options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.getWorkerStatus({ scope: 'cluster' }),
        ({ instances = [] }) =>
          formatTable(
            ['INSTANCE', 'HOST', 'SINCE', 'SEEN', 'STATE'],
            instances.map(({ worker_id: id, host, started_at: since, seen_at: seen, draining }) => [
              id,
              host,
              since,
              seen,
              draining === null || draining === undefined ? 'takes jobs' : heldBy('drained', draining),
            ]),
          ),
      ),
    );

  instance
    .command('drain')
    .description('let it finish what it has and take no more; it stays up')
    .argument('<id>', 'the id, as much of it as is needed, or self')
    .option('--reason <text>', 'for whoever wonders')
    .action((begun: string, { reason }: { reason?: string }, command: Command) =>
      ask(
        command,
        async (client) =>
          client.drainInstance({ worker_id: await wholeInstance(client, begun), body: bodyOf(reason) }),
        ({ worker_id: id }) => `${oneLine(id)}: takes no more jobs`,
      ),
    );

  instance
    .command('resume')
    .description('let it take jobs again')
    .argument('<id>', 'the id, as much of it as is needed, or self')
    .action((begun: string, _options: unknown, command: Command) =>
      ask(
        command,
        async (client) => client.resumeInstance({ worker_id: await wholeInstance(client, begun) }),
        ({ worker_id: id }) => `${oneLine(id)}: takes jobs`,
      ),
    );
}

const bodyOf = (reason: string | undefined) => (reason === undefined ? {} : { reason });

function asQueue(name: string): QueueState['queue'] {
  const queue = queueNames.find((known) => known === name || known === `${name}_queue`);
  if (queue === undefined) throw new CliError(`The queues are ${queueNames.join(' and ')}`, exitCodes.usage);
  return queue;
}

const secondsOf = (seconds: number | null) => (seconds === null ? '' : `${Math.round(seconds)} s`);

function heldBy(how: string, { since, by, reason }: NonNullable<QueueState['paused']>): string {
  return `${how} by ${by} since ${since}${reason === undefined ? '' : `: ${reason}`}`;
}

function stateOf({ paused, trouble, takers }: QueueState): string {
  if (paused !== null) return heldBy('paused', paused);
  return trouble ?? `taken from by ${takers === 1 ? '1 instance' : `${takers} instances`}`;
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
    .command('reasons')
    .description('why payloads were given up, and how many for each reason')
    .action((_options: unknown, command: Command) =>
      ask(
        command,
        (client) => client.listDeadLetterReasons(),
        ({ reasons }) =>
          reasons.length === 0
            ? 'No dead letters.'
            : formatTable(
                ['COUNT', 'QUEUE', 'OLDEST', 'NEWEST', 'REASON'],
                reasons.map(({ count, queue, oldest_at: oldest, newest_at: newest, reason }) => [
                  count,
                  queue,
                  oldest,
                  newest,
                  shorten(reason, 100),
                ]),
              ),
      ),
    );

  some(deadLetters.command('requeue'))
    .description(
      'put payloads back at the end of their queue with a fresh attempt count: one, or all for a reason',
    )
    .action((id: string | undefined, options: LetterOptions, command: Command) =>
      oneOrMany(id, options)
        ? ask(
            command,
            async (client) => client.requeueDeadLetter({ id: await wholeLetter(client, id) }),
            (answer) => `${oneLine(answer.id)}: back in its queue`,
          )
        : ask(
            command,
            (client) => withMany(options, (body) => client.requeueDeadLetters({ body })),
            ({ done, kept }) =>
              `${done} back in line${kept === 0 ? '' : `, ${kept} too large to be put back`}`,
          ),
    );

  some(deadLetters.command('drop'))
    .description('delete payloads for good: one, or all for a reason')
    .action((id: string | undefined, options: LetterOptions, command: Command) =>
      oneOrMany(id, options)
        ? ask(
            command,
            async (client) => client.dropDeadLetter({ id: await wholeLetter(client, id) }),
            (answer) => `${oneLine(answer.id)}: deleted`,
          )
        : ask(
            command,
            (client) => withMany(options, (body) => client.dropDeadLetters({ body })),
            ({ done }) => `${done} deleted`,
          ),
    );
}

const some = (command: Command) =>
  command
    .argument('[id]')
    .addOption(new Option('--queue <queue>', 'all of this queue').choices(queueNames))
    .option('--reason <reason>', 'all that were given up for this reason, or a part of it');

interface LetterOptions {
  queue?: 'sdxl_queue' | 'wan_queue';
  reason?: string;
}
type LetterSelection = Parameters<Client['requeueDeadLetters']>[0]['body'];
type LettersDone = Awaited<ReturnType<Client['requeueDeadLetters']>>;

function oneOrMany(id: string | undefined, options: LetterOptions): id is string {
  if ((id === undefined) === (Object.keys(options).length === 0))
    throw new CliError('Name one dead letter by its id, or several by --reason or --queue', exitCodes.usage);
  return id !== undefined;
}

/** Until none is left; what is too large to be put back stays, and is counted once. */
async function withMany(
  options: LetterOptions,
  act: (body: LetterSelection) => Promise<LettersDone>,
): Promise<LettersDone> {
  let sum = await act(options);
  for (let { more } = sum; more;) {
    const { done, kept, more: next } = await act(options);
    sum = { done: sum.done + done, kept, more: next };
    more = next && done > 0;
  }
  return sum;
}
