import { SingleBar } from 'cli-progress';
import { formatSeconds } from '../progress-view.js';
import { gigabytes } from './pull.js';

/** Shows how far a transfer is, on stderr: a bar where a person watches, a line per twentieth elsewhere. */
export function createTransferView(totalBytes: number, stream: NodeJS.WriteStream = process.stderr) {
  let bytes = 0;
  let lastShown = -1;
  // Speed is that of this run: what was here before it did not travel.
  let begun: { atMs: number; bytes: number } | undefined;
  const bar = stream.isTTY ? new SingleBar({ format: '{bar} {percentage}% | {label}', stream, hideCursor: true, clearOnComplete: true, barCompleteChar: '█', barIncompleteChar: '░', barsize: 30, etaBuffer: 1 }) : undefined;
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
