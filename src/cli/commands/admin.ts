import { type Command, Option } from 'commander';
import type { Client } from '../../../client/index.js';
import { ask, clientOf, isJson } from '../client.js';
import { CliError, exitCodes, formatTable, print, shorten, toInteger } from '../output.js';
import { queueNames } from '../../services/catalogue.js';

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
