import { type Command, Option } from 'commander';
import { CliError, exitCodes, formatTable, print, shorten, toInteger } from '../output.js';
import { clientOf, isJson } from '../client.js';
import type { components } from '../../contract/generated.js';
import { queueNames } from '../../services/catalogue.js';

export function registerDeadLetters(program: Command): void {
  const deadLetters = program
    .command('dead-letters')
    .description('payloads that were given up: list, put back, drop');

  deadLetters
    .command('list', { isDefault: true })
    .description('dead letters with the reason, newest first')
    .addOption(new Option('--queue <queue>', 'only of this queue').choices(queueNames))
    .option('--limit <count>', 'at most this many', toInteger, 50)
    .action(async (options: { queue?: string; limit: number }, command: Command) => {
      const query = new URLSearchParams({
        limit: String(options.limit),
        ...(options.queue === undefined ? {} : { queue: options.queue }),
      });
      const answer = await clientOf(command).request<components['schemas']['DeadLetters']>(
        'GET',
        `/dead-letters?${query.toString()}`,
      );
      print(isJson(command), answer, () =>
        answer.dead_letters.length === 0
          ? 'No dead letters.'
          : formatTable(
              ['ID', 'QUEUE', 'JOB', 'ATTEMPTS', 'AT', 'REASON', 'PAYLOAD'],
              answer.dead_letters.map((letter) => [
                letter.id,
                letter.queue,
                letter.job_id,
                letter.attempts,
                letter.at,
                shorten(letter.reason, 60),
                shorten(letter.payload, 40),
              ]),
            ),
      );
    });

  deadLetters
    .command('requeue')
    .description('put the payload back at the end of its queue with a fresh attempt count')
    .argument('<id>')
    .action(async (id: string, _options: unknown, command: Command) => {
      const answer = await clientOf(command).request<unknown>(
        'POST',
        `/dead-letters/${encodeURIComponent(id)}/requeue`,
      );
      print(isJson(command), answer, () => `${id}: queued again`);
    });

  deadLetters
    .command('drop')
    .description('delete the payload for good')
    .argument('<id>')
    .action(async (id: string, _options: unknown, command: Command) => {
      const answer = await clientOf(command).request<unknown>(
        'DELETE',
        `/dead-letters/${encodeURIComponent(id)}`,
      );
      print(isJson(command), answer, () => `${id}: dropped`);
    });
}

export function registerCallbacks(program: Command): void {
  const callbacks = program
    .command('callbacks')
    .description('callbacks the receiver never accepted: list, send again');

  callbacks
    .command('list', { isDefault: true })
    .description('callbacks that were given up, with the last error')
    .option('--limit <count>', 'at most this many', toInteger, 50)
    .action(async (options: { limit: number }, command: Command) => {
      const answer = await clientOf(command).request<components['schemas']['Callbacks']>(
        'GET',
        `/callbacks?limit=${options.limit}`,
      );
      print(isJson(command), answer, () => {
        const heading = `${answer.pending} waiting to be sent, ${answer.dead.length} given up`;
        return answer.dead.length === 0
          ? heading
          : `${heading}\n${formatTable(
              ['ID', 'EVENT', 'ATTEMPTS', 'CREATED', 'LAST ERROR'],
              answer.dead.map((entry) => [
                entry.id,
                entry.event,
                entry.attempts,
                entry.created_at,
                shorten(entry.last_error ?? '', 80),
              ]),
            )}`;
      });
    });

  callbacks
    .command('retry')
    .description('put given-up callbacks back in line: one, or all')
    .argument('[id]')
    .action(async (id: string | undefined, _options: unknown, command: Command) => {
      const answer = await clientOf(command).request<{ retried: number }>('POST', '/callbacks/retry', {
        body: id === undefined ? {} : { id },
      });
      print(isJson(command), answer, () => `${answer.retried} put back in line`);
      if (id !== undefined && answer.retried === 0)
        throw new CliError(`No given-up callback has the id ${id}`, exitCodes.notFound);
    });
}
