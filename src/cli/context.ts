import { InvalidArgumentError, type Command } from 'commander';
import { createClient, type Client } from './client.js';
import { resolveConnection, type ConnectionOptions } from './connection.js';

/** Client for the `--url` and `--key` given anywhere on the command line. */
export function clientOf(command: Command): Client {
  return createClient(resolveConnection(command.optsWithGlobals<ConnectionOptions>()));
}

export function isJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true;
}

export function toInteger(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value)) throw new InvalidArgumentError('Give a whole number.');
  return value;
}

export function toNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Give a number.');
  return value;
}
