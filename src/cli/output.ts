import { randomInt } from 'node:crypto';
import { styleText } from 'node:util';
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
  process.stdout.write(`${coloured(printable(text))}\n`);
}
export function writeNote(text: string, stream: NodeJS.WritableStream = process.stderr): void {
  stream.write(`${printable(text)}\n`);
}

/** Whether a person watches what is printed. */
export const isWatched = () => process.stdout.isTTY;

/** In place of what stands on the screen; in a pipe one after the other. */
export function redraw(text: string): void {
  if (isWatched()) process.stdout.write('\u001b[H\u001b[2J');
  writeLine(text);
}

/** Prints a result: JSON for scripts, else the text made for people. */
export function print(asJson: boolean, value: unknown, asText: () => string): void {
  writeLine(asJson ? JSON.stringify(value, null, 2) : asText());
}

const states = {
  green: ['ok', 'ready', 'busy', 'active', 'healthy', 'running', 'completed', 'fit'],
  yellow: [
    'WARN',
    'starting',
    'warming',
    'draining',
    'restarting',
    'degraded',
    'queued',
    'processing',
    'paused',
  ],
  red: ['ERROR', 'failed', 'backing_off', 'unhealthy'],
} as const;
type Colour = keyof typeof states;
const colourOf = new Map(
  Object.entries(states).flatMap(([colour, words]) =>
    words.map((word) => [word as string, colour as Colour]),
  ),
);
/** Stands around what is coloured until a line is written; nobody else's text can have guessed it. */
const mark = String.fromCodePoint(0xf0000 + randomInt(0xfff0));

/** In colour on a terminal; NO_COLOR and pipes keep it plain. */
function coloured(text: string): string {
  return text
    .split(mark)
    .map((part, index) => {
      const colour = index % 2 === 1 ? colourOf.get(part) : undefined;
      return colour === undefined ? part : styleText(colour, part, { stream: process.stdout });
    })
    .join('');
}

const widthOf = (cell: string) => [...cell].length;
const gap = '  ';
const narrowest = 8;

/** What a table may take: the terminal's width; a pipe takes all. */
const availableColumns = () => (isWatched() ? Math.max(40, process.stdout.columns) : Infinity);

/**
 * Columns padded to their widest cell, states in colour; missing values are shown as a dash. Where that is
 * wider than `columns`, the widest columns are made narrower and their cells go on in further lines.
 */
export function formatTable(
  headings: readonly string[],
  rows: ReadonlyArray<ReadonlyArray<unknown>>,
  columns = availableColumns(),
): string {
  const cells = [headings, ...rows].map((row) => row.map((cell) => oneLine(String(cell ?? '')) || '-'));
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ''))));
  const total = () => widths.reduce((sum, width) => sum + width, gap.length * (widths.length - 1));
  while (total() > columns && Math.max(...widths) > narrowest) {
    const widest = widths.indexOf(Math.max(...widths));
    widths[widest] = Math.max(...widths) - 1;
  }
  return cells
    .flatMap((row) => {
      const wrapped = row.map((cell, column) => wrap(cell, widths[column] ?? 0));
      const height = Math.max(...wrapped.map((lines) => lines.length));
      return Array.from({ length: height }, (_, line) =>
        wrapped
          .map((lines, column) => {
            const text = lines[line] ?? '';
            const isState = isWatched() && lines.length === 1 && colourOf.has(text);
            const shown = isState ? mark + text + mark : text;
            return shown + ' '.repeat(Math.max(0, (widths[column] ?? 0) - widthOf(text)));
          })
          .join(gap)
          .trimEnd(),
      );
    })
    .join('\n');
}

/** At spaces where there are some, else anywhere: nothing is left out. */
function wrap(text: string, width: number): string[] {
  const lines = [''];
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? '';
    if (line !== '' && widthOf(line) + 1 + widthOf(word) <= width) {
      lines[lines.length - 1] = `${line} ${word}`;
      continue;
    }
    const characters = [...word];
    if (line === '') lines.pop();
    do lines.push(characters.splice(0, width).join(''));
    while (characters.length > 0);
  }
  return lines;
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

/** A PNG in pieces of 4,096 bytes, as kitty's protocol asks; `how` goes before them. */
export function kittyOf(png: Buffer, how = ''): string {
  const pieces = png.toString('base64').match(/.{1,4096}/g) ?? [];
  const more = (index: number) => (index < pieces.length - 1 ? 1 : 0);
  return pieces
    .map(
      (piece, index) =>
        `\u001b_G${index === 0 ? `a=T,f=100,${how}` : ''}q=2,m=${more(index)};${piece}\u001b\\`,
    )
    .join('');
}

/** Six rows of pixels a line, colour by colour, in the 216 colours of a cube of six steps a channel. */
export function sixelOf(rgb: Uint8Array, width: number, height: number): string {
  const level = (value = 0) => Math.round((value / 255) * 5);
  const percent = (step: number) => step * 20;
  const colourAt = (pixel: number) =>
    level(rgb[pixel * 3]) * 36 + level(rgb[pixel * 3 + 1]) * 6 + level(rgb[pixel * 3 + 2]);
  const used = new Set<number>();
  const bands: string[] = [];
  for (let top = 0; top < height; top += 6) {
    const rows = new Map<number, Uint8Array>();
    for (let y = top; y < Math.min(top + 6, height); y += 1)
      for (let x = 0; x < width; x += 1) {
        const colour = colourAt(y * width + x);
        const row = rows.get(colour) ?? new Uint8Array(width);
        rows.set(colour, row);
        row[x] = (row[x] ?? 0) | (1 << (y - top));
        used.add(colour);
      }
    const lines = [...rows].map(([colour, row]) => {
      const text = Array.from(row, (bits) => String.fromCharCode(63 + bits)).join('');
      return `#${colour}${text.replace(/(.)\1{3,}/g, (run: string) => `!${run.length}${run[0]}`)}`;
    });
    bands.push(lines.join('$'));
  }
  const palette = [...used].map(
    (colour) =>
      `#${colour};2;${percent(Math.floor(colour / 36))};${percent(Math.floor(colour / 6) % 6)};${percent(colour % 6)}`,
  );
  return `\u001bPq"1;1;${width};${height}${palette.join('')}${bands.join('-')}\u001b\\`;
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
  failed: 'the job failed, a check found something broken, or a download went wrong',
  usage: 'wrong arguments, or values that the service refuses',
  unreachable: 'no service answers at the address',
  unauthorized: 'the API key is missing or wrong',
  notFound: 'there is no such job, entry or model',
  busy: 'queue or disk is full, or the service is not ready: try again later',
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
