import { spawn } from 'node:child_process';
import { type Options, SingleBar } from 'cli-progress';
import { oneLine } from '../lib/printable.js';
import { writeNote } from './output.js';
import type { ProgressView } from './job-view.js';
import { gigabytes } from './models/pull.js';

/** Shows how far a job is. Always on stderr, so that stdout carries only results. */
export interface JobProgressDisplay {
  update(progress: ProgressView): void;
  /** A line of its own, e.g. that the job is tried again. */
  note(text: string): void;
  stop(): void;
}

/** A bar where a person watches, a line per stage and tenth elsewhere (logs, pipes). */
export function createProgressDisplay(stream: NodeJS.WriteStream = process.stderr): JobProgressDisplay {
  return stream.isTTY ? createBar(stream) : createWaitingRooms(stream);
}

export const silentProgress: JobProgressDisplay = {
  update: () => undefined,
  note: () => undefined,
  stop: () => undefined,
};

/** A bar on the terminal's current line; its label and notes are text of others. */
function openBar(stream: NodeJS.WriteStream, options: Options = {}) {
  const bar = new SingleBar({
    format: '{bar} {percentage}% | {label}',
    stream,
    hideCursor: true,
    clearOnComplete: true,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
    ...options,
  });
  return {
    start: (total: number) => bar.start(total, 0, { label: '' }),
    show: (value: number, label: string) => bar.update(value, { label: oneLine(label) }),
    /** The bar owns the current line: clear it, and let the next update draw it again below the note. */
    note: (text: string) => void stream.write(`\r\u001b[K${oneLine(text)}\n`),
    stop: () => bar.stop(),
  };
}

function createBar(stream: NodeJS.WriteStream): JobProgressDisplay {
  const bar = openBar(stream);
  let started = false;
  return {
    update: (progress) => {
      if (!started) bar.start(100);
      started = true;
      bar.show(Math.round(progress.fraction * 100), describeProgress(progress));
    },
    note: bar.note,
    stop: bar.stop,
  };
}

function createWaitingRooms(stream: NodeJS.WriteStream): JobProgressDisplay {
  let lastShown = '';
  return {
    update: (progress) => {
      const marker = `${progress.stage} ${Math.floor(progress.fraction * 10)}`;
      if (marker === lastShown) return;
      lastShown = marker;
      const percentage = String(Math.round(progress.fraction * 100)).padStart(3);
      writeNote(`${percentage} %  ${oneLine(describeProgress(progress))}`, stream);
    },
    note: (text) => writeNote(oneLine(text), stream),
    stop: () => undefined,
  };
}

/** e.g. `denoise 7/15, about 3 s left` */
export function describeProgress(progress: ProgressView): string {
  const step = progress.steps > 0 ? ` ${progress.step}/${progress.steps}` : '';
  const eta = progress.eta_seconds === null ? '' : `, about ${formatSeconds(progress.eta_seconds)} left`;
  return `${progress.stage}${step}${eta}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** Shows how far a transfer is, on stderr: a bar where a person watches, a line per twentieth elsewhere. */
export function createTransferView(totalBytes: number, stream: NodeJS.WriteStream = process.stderr) {
  let bytes = 0;
  let lastShown = -1;
  // Speed is that of this run: what was here before it did not travel.
  let begun: { atMs: number; bytes: number } | undefined;
  const bar = stream.isTTY ? openBar(stream, { etaBuffer: 1 }) : undefined;
  bar?.start(Math.max(1, totalBytes));

  function describe(): string {
    const seconds = begun === undefined ? 0 : (performance.now() - begun.atMs) / 1000;
    const speed = begun === undefined || seconds < 0.2 ? 0 : (bytes - begun.bytes) / seconds;
    const rest =
      speed > 0 ? `, ${gigabytes(speed)}/s, ${formatSeconds((totalBytes - bytes) / speed)} left` : '';
    return `${gigabytes(bytes)} of ${gigabytes(totalBytes)}${rest}`;
  }

  return {
    add(count: number): void {
      bytes += count;
      begun ??= { atMs: performance.now(), bytes };
      if (bar !== undefined) bar.show(bytes, describe());
      else {
        const twentieth = Math.floor((bytes / Math.max(1, totalBytes)) * 20);
        if (twentieth !== lastShown)
          writeNote(`${String(twentieth * 5).padStart(3)} %  ${describe()}`, stream);
        lastShown = twentieth;
      }
    },
    note: bar?.note ?? ((text: string) => writeNote(oneLine(text), stream)),
    stop: () => bar?.stop(),
  };
}

type Pictures = 'kitty' | 'iterm2' | 'sixel';

/** How this terminal takes pictures; null: it does not, or nobody watches. */
export async function picturesOf(
  stream: NodeJS.WriteStream = process.stdout,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Pictures | null> {
  const { TERM = '', TERM_PROGRAM = '', LC_TERMINAL = '' } = environment;
  // tmux and screen pass none of it on
  if (!stream.isTTY || TERM === 'dumb' || /^(tmux|screen)/.test(TERM)) return null;
  if (
    /kitty|ghostty/.test(TERM) ||
    environment['KITTY_WINDOW_ID'] !== undefined ||
    TERM_PROGRAM === 'ghostty'
  )
    return 'kitty';
  if (/^(iTerm\.app|WezTerm)$/.test(TERM_PROGRAM) || LC_TERMINAL === 'iTerm2') return 'iterm2';
  return (await saysSixel(stream)) ? 'sixel' : null;
}

/** Asks for the terminal's attributes; 4 among them is sixel. What does not answer in a moment has none. */
async function saysSixel(
  stream: NodeJS.WriteStream,
  input: NodeJS.ReadStream = process.stdin,
): Promise<boolean> {
  if (!input.isTTY) return false;
  input.setRawMode(true);
  return new Promise<boolean>((resolve) => {
    let answer = '';
    const end = () => {
      clearTimeout(timer);
      input.off('data', onData).pause();
      input.setRawMode(false);
      resolve(/\[\?(?:\d+;)*4(?:;\d+)*c/.test(answer));
    };
    const onData = (chunk: Buffer) => {
      answer += chunk.toString('latin1');
      if (/\[\?[\d;]*c/.test(answer)) end();
    };
    const timer = setTimeout(end, 300);
    input.on('data', onData).resume();
    stream.write('\u001b[c');
  });
}

const longestSide = 512;
const shortestSide = 256;

/** What the terminal can do, which is asked once. */
let taken: ReturnType<typeof picturesOf> | undefined;

/** Shows a picture where the terminal can: small ones enlarged, large ones made smaller. */
export async function showPicture(file: string, stream: NodeJS.WriteStream = process.stdout): Promise<void> {
  if (!/\.(png|webp|jpe?g)$/i.test(file)) return;
  const way = await (taken ??= picturesOf(stream));
  if (way === null) return;
  // Most commands show none, and "doctor" tells of one that cannot be loaded.
  const { default: sharp } = await import('sharp');
  const picture = sharp(file);
  const { width = 1, height = 1 } = await picture.metadata();
  const side = Math.max(width, height);
  const factor = Math.min(longestSide / side, Math.max(1, Math.ceil(shortestSide / side)));
  const fit = picture.resize(Math.round(width * factor), Math.round(height * factor), {
    kernel: factor > 1 ? 'nearest' : 'lanczos3',
  });
  if (way === 'sixel') {
    const { data, info } = await fit
      .removeAlpha()
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    stream.write(`${sixelOf(data, info.width, info.height)}\n`);
    return;
  }
  const bytes = (await fit.png().toBuffer()).toString('base64');
  stream.write(way === 'kitty' ? kittyOf(bytes) : `\u001b]1337;File=inline=1:${bytes}\u0007\n`);
}

/** In pieces of 4,096 bytes, as the protocol asks. */
function kittyOf(base64: string): string {
  const pieces = base64.match(/.{1,4096}/g) ?? [];
  const more = (index: number) => (index < pieces.length - 1 ? 1 : 0);
  return `${pieces
    .map((piece, index) => `\u001b_G${index === 0 ? 'a=T,f=100,' : ''}q=2,m=${more(index)};${piece}\u001b\\`)
    .join('')}\n`;
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

const viewers: Partial<Record<NodeJS.Platform, string>> = { darwin: 'open', win32: 'explorer' };

/** With the viewer this machine has for it; the command line does not wait for it. */
export function openFile(file: string): void {
  const viewer = viewers[process.platform] ?? 'xdg-open';
  spawn(viewer, [file], { stdio: 'ignore', detached: true })
    .on('error', () => writeNote(`${viewer} is not here: open ${file} yourself`))
    .unref();
}
