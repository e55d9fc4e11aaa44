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
