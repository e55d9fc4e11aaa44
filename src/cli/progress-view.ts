import { type Options, SingleBar } from 'cli-progress';
import { oneLine } from '../lib/printable.js';
import { kittyOf, sixelOf, writeNote } from './output.js';
import { describeProgress, formatSeconds, type ProgressView } from './job-view.js';
import { gigabytes } from './models/pull.js';

/** Shows how far a job is. Always on stderr, so that stdout carries only results. */
export interface JobProgressDisplay {
  update(progress: ProgressView): void;
  /** A line of its own, e.g. that the job is tried again. */
  note(text: string): void;
  /** What can be seen of the picture by now, in place of what was shown before. */
  preview(picture: Buffer): void;
  stop(): void;
}

/**
 * A bar where a person watches, with previews where `pictures` says how; a line per stage and tenth elsewhere (logs,
 * pipes).
 */
export function createProgressDisplay(
  stream: NodeJS.WriteStream = process.stderr,
  pictures: Pictures | null = null,
): JobProgressDisplay {
  return stream.isTTY ? createBar(stream, pictures) : createWaitingRooms(stream);
}

export const silentProgress: JobProgressDisplay = {
  update: () => undefined,
  note: () => undefined,
  preview: () => undefined,
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
    stop: () => {
      // It goes back to where the cursor was saved: where it began, unless notes and previews have moved it.
      stream.write('\u001b7');
      bar.stop();
    },
  };
}

function createBar(stream: NodeJS.WriteStream, pictures: Pictures | null): JobProgressDisplay {
  const bar = openBar(stream);
  const previews = createPreviews(stream, pictures);
  let started = false;
  return {
    update: (progress) => {
      if (!started) bar.start(100);
      started = true;
      bar.show(Math.round(progress.fraction * 100), describeProgress(progress));
    },
    note: (text) => {
      previews.leave();
      bar.note(text);
    },
    preview: (picture) => {
      if (started) previews.show(picture);
    },
    stop: () => {
      if (started) bar.stop();
      previews.erase();
    },
  };
}

/** Of a preview; in a lower terminal there is none. A row is hardly anywhere lower than these pixels. */
const previewRows = 14;
const rowPixels = 12;
/** By which kitty knows that one preview replaces another. */
const previewId = 7860;

/** Above the line of the cursor, each in place of the one before. */
function createPreviews(stream: NodeJS.WriteStream, way: Pictures | null) {
  let stands = false;
  let over = false;
  let latest: Buffer | undefined;
  let drawing = false;

  async function draw(way: Pictures): Promise<void> {
    drawing = true;
    for (let next = latest; next !== undefined && !over; next = latest) {
      latest = undefined;
      const picture = await encode(next, way, previewRows).catch(() => undefined);
      if (over || picture === undefined) continue;
      const room = stands ? '' : '\n'.repeat(previewRows);
      stream.write(`\r\u001b[K${room}\u001b[${previewRows}A\u001b7${picture}\u001b8\u001b[${previewRows}B`);
      stands = true;
    }
    drawing = false;
  }

  return {
    show(picture: Buffer): void {
      latest = picture;
      if (way !== null && !drawing && stream.rows > previewRows + 2) void draw(way);
    },
    /** The last one stays where it is: a line is about to follow it. */
    leave: () => void (stands = false),
    erase(): void {
      over = true;
      if (!stands) return;
      const gone = way === 'kitty' ? `\u001b_Ga=d,d=I,i=${previewId},q=2\u001b\\` : '';
      stream.write(`${gone}\r\u001b[${previewRows}A\u001b[J`);
    },
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
    preview: () => undefined,
    stop: () => undefined,
  };
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

export type Pictures = 'kitty' | 'iterm2' | 'sixel';

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

/** Shows a picture where the terminal can. */
export async function showPicture(file: string, way: Pictures | null): Promise<void> {
  if (way === null || !/\.(png|webp|jpe?g)$/i.test(file)) return;
  process.stdout.write(`${await encode(file, way)}\n`);
}

/** For this terminal, small pictures enlarged, large ones made smaller; `rows` high, if given. */
async function encode(source: string | Buffer, way: Pictures, rows?: number): Promise<string> {
  // Most commands show none, and "doctor" tells of one that cannot be loaded.
  const { default: sharp } = await import('sharp');
  const picture = sharp(source);
  const { width = 1, height = 1 } = await picture.metadata();
  const side = Math.max(width, height);
  const factor =
    rows === undefined
      ? Math.min(longestSide / side, Math.max(1, Math.ceil(shortestSide / side)))
      : (rows * rowPixels) / height;
  const fit = picture.resize(Math.round(width * factor), Math.round(height * factor), {
    kernel: factor > 1 ? 'nearest' : 'lanczos3',
  });
  if (way === 'sixel') {
    const { data, info } = await fit
      .removeAlpha()
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    return sixelOf(data, info.width, info.height);
  }
  const png = await fit.png().toBuffer();
  if (way === 'kitty') return kittyOf(png, rows === undefined ? '' : `i=${previewId},p=1,C=1,r=${rows},`);
  const high = rows === undefined ? '' : `height=${rows};`;
  return `\u001b]1337;File=inline=1;${high}:${png.toString('base64')}\u0007`.replace(';:', ':');
}
