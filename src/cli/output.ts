import { InvalidArgumentError } from 'commander';

/** Prints a result: JSON for scripts, else the text made for people. */
export function print(asJson: boolean, value: unknown, asText: () => string): void {
  process.stdout.write(`${asJson ? JSON.stringify(value, null, 2) : asText()}\n`);
}

/** Columns padded to their widest cell; missing values are shown as a dash. */
export function formatTable(
  headings: readonly string[],
  rows: ReadonlyArray<ReadonlyArray<unknown>>,
): string {
  const cells = [headings, ...rows].map((row) =>
    row.map((cell) =>
      cell === undefined || cell === null || cell === '' ? '-' : String(cell).replace(/\s+/g, ' '),
    ),
  );
  const widths = headings.map((_, column) =>
    Math.max(...cells.map((row) => [...(row[column] ?? '')].length)),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - [...cell].length)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `key: value` lines; nested values as JSON. */
export function formatFields(fields: Record<string, unknown>): string {
  const shown = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  const width = Math.max(0, ...shown.map(([key]) => key.length));
  return shown
    .map(
      ([key, value]) =>
        `${key.padEnd(width)}  ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`,
    )
    .join('\n');
}

export function shorten(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}

/**
 * Exit codes of `ourvidz`, part of its interface (README and `--help` state them).
 * A shell script can tell "the job failed" from "the service is away" without reading text.
 */
export const exitCodes = {
  ok: 0,
  /** The job, or the enhancement, ended in failure. */
  failed: 1,
  /** Wrong arguments, or the service refused the values. */
  usage: 2,
  /** Nothing answers at the address. */
  unreachable: 3,
  /** The API key is missing or wrong. */
  unauthorized: 4,
  /** No such job, dead letter or callback. */
  notFound: 5,
  /** The queue is full or the service is not ready; trying again later makes sense. */
  busy: 6,
  /** The service answered with an error of its own, or with something that is not its contract. */
  serviceError: 7,
  /** `doctor` found warnings and no errors. */
  warnings: 8,
  /** Ctrl-C; the job was cancelled. */
  interrupted: 130,
} as const;

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
