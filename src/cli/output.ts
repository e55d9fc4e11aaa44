import { InvalidArgumentError } from 'commander';
import { oneLine, printable } from '../lib/printable.js';

/** Whoever reads the output may have seen enough: `ourvidz jobs list | head`. */
export function endWhenNobodyReads(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
}

/** The only ways from here to a terminal. Results go to stdout, everything else that is said to stderr. */
export function writeLine(text = ''): void {
  process.stdout.write(`${printable(text)}\n`);
}
export function writeNote(text: string, stream: NodeJS.WritableStream = process.stderr): void {
  stream.write(`${printable(text)}\n`);
}

/** Prints a result: JSON for scripts, else the text made for people. */
export function print(asJson: boolean, value: unknown, asText: () => string): void {
  writeLine(asJson ? JSON.stringify(value, null, 2) : asText());
}

/** Columns padded to their widest cell; missing values are shown as a dash. */
export function formatTable(
  headings: readonly string[],
  rows: ReadonlyArray<ReadonlyArray<unknown>>,
): string {
  const cells = [headings, ...rows].map((row) => row.map((cell) => oneLine(String(cell ?? '')) || '-'));
  const widthOf = (cell = '') => [...cell].length;
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column]))));
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `key  value` lines; nested values as JSON. */
export function formatFields(fields: Record<string, unknown>): string {
  const shown = Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => [oneLine(key), typeof value === 'object' ? JSON.stringify(value) : String(value)]);
  const width = Math.max(0, ...shown.map(([key = '']) => key.length));
  return shown.map(([key = '', value = '']) => `${key.padEnd(width)}  ${oneLine(value)}`).join('\n');
}

export function shorten(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}

/**
 * Exit codes of `ourvidz`, part of its interface: a shell script can tell "the job failed" from "the service
 * is away" without reading text. `--help` lists them with these words.
 */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  unreachable: 3,
  unauthorized: 4,
  notFound: 5,
  busy: 6,
  serviceError: 7,
  warnings: 8,
  interrupted: 130,
} as const;

export const exitCodeMeanings: Readonly<Record<keyof typeof exitCodes, string>> = {
  ok: 'done',
  failed: 'the job failed, status or a check found something broken, or a download went wrong',
  usage: 'wrong arguments, or values that the service refuses',
  unreachable: 'no service answers at the address',
  unauthorized: 'the API key is missing or wrong',
  notFound: 'there is no such job, entry or model',
  busy: 'the queue or the disk is full, or the service is not ready: try again later',
  serviceError: 'the service answered with an error of its own',
  warnings: 'status or doctor found warnings and no errors',
  interrupted: 'interrupted by Ctrl-C; generate cancels its job',
};

/** What the command line says before it ends with `exitCode`. */
export class CliError extends Error {
  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message);
    this.name = 'CliError';
  }
}

export function toInteger(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value))
    throw new InvalidArgumentError('Give a whole number.');
  return value;
}

export function toNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Give a number.');
  return value;
}
