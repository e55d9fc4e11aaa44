import { SingleBar } from 'cli-progress';
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

function createBar(stream: NodeJS.WriteStream): JobProgressDisplay {
  const bar = new SingleBar({
    format: '{bar} {percentage}% | {label}',
    stream,
    hideCursor: true,
    clearOnComplete: true,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 30,
  });
  let started = false;
  return {
    update: (progress) => {
      const percentage = Math.round(progress.fraction * 100);
      const payload = { label: describeProgress(progress) };
      if (started) bar.update(percentage, payload);
      else bar.start(100, percentage, payload);
      started = true;
    },
    note: (text) => {
      // The bar owns the current line: clear it, and let the next update draw it again below the note.
      stream.write(`\r\u001b[K${text}\n`);
    },
    stop: () => bar.stop(),
  };
}

function createWaitingRooms(stream: NodeJS.WriteStream): JobProgressDisplay {
  let lastShown = '';
  return {
    update: (progress) => {
      const marker = `${progress.stage} ${Math.floor(progress.fraction * 10)}`;
      if (marker === lastShown) return;
      lastShown = marker;
      stream.write(
        `${String(Math.round(progress.fraction * 100)).padStart(3)} %  ${describeProgress(progress)}\n`,
      );
    },
    note: (text) => void stream.write(`${text}\n`),
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
  const bar = stream.isTTY
    ? new SingleBar({
        format: '{bar} {percentage}% | {label}',
        stream,
        hideCursor: true,
        clearOnComplete: true,
        barCompleteChar: '█',
        barIncompleteChar: '░',
        barsize: 30,
        etaBuffer: 1,
      })
    : undefined;
  bar?.start(Math.max(1, totalBytes), 0, { label: '' });

  function describe(): string {
    const seconds = begun === undefined ? 0 : (performance.now() - begun.atMs) / 1000;
    const speed = begun === undefined || seconds < 0.2 ? 0 : (bytes - begun.bytes) / seconds;
    return `${gigabytes(bytes)} of ${gigabytes(totalBytes)}${speed > 0 ? `, ${gigabytes(speed)}/s, ${formatSeconds((totalBytes - bytes) / speed)} left` : ''}`;
  }

  return {
    add(count: number): void {
      bytes += count;
      begun ??= { atMs: performance.now(), bytes };
      if (bar !== undefined) bar.update(bytes, { label: describe() });
      else {
        const twentieth = Math.floor((bytes / Math.max(1, totalBytes)) * 20);
        if (twentieth !== lastShown) stream.write(`${String(twentieth * 5).padStart(3)} %  ${describe()}\n`);
        lastShown = twentieth;
      }
    },
    note(text: string): void {
      stream.write(bar === undefined ? `${text}\n` : `\r\u001b[K${text}\n`);
    },
    stop: () => bar?.stop(),
  };
}
