import { api, isOver, type Job, reason, type Schemas } from '../api.js';
import { createCell, createKeptCell } from '../cell.js';
import { jobsChanged } from '../live.js';

export interface Watched {
  job: Job;
  /** The latest preview of each picture. */
  previews: Record<number, string>;
  progress: Schemas['JobProgress'];
  problem: string | null;
}

/** The job whose pictures are on the stage. */
export const staged = createKeptCell<{ id: string | null }>('staged', { id: null });
export const watched = createCell<Watched | null>(null);

let watching = new AbortController();
const positionMs = 2000;

/** Shows a job on the stage and follows it to its end. */
export function watch(id: string): void {
  staged.set({ id });
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  void follow(id, signal).catch((error: unknown) => {
    if (signal.aborted) return;
    const known = watched.get();
    if (known === null) staged.set({ id: null });
    else watched.set({ ...known, problem: reason(error) });
  });
}

async function follow(id: string, signal: AbortSignal): Promise<void> {
  const first = await api.getJob({ id }, { signal });
  watched.set({ job: first, previews: {}, progress: first.progress, problem: null });
  if (isOver(first.status)) return;
  const position = setInterval(() => void lookAtPosition(id, signal), positionMs);
  try {
    for await (const event of api.followJob(id, { signal, giveUpAfterMs: 600_000 })) {
      const known = watched.get();
      if (known === null || signal.aborted) return;
      if (event.event === 'progress') watched.set({ ...known, progress: event.data });
      else if (event.event === 'preview') {
        const { image, content_type: type, base64 } = event.data;
        const previews = { ...known.previews, [image]: `data:${type};base64,${base64}` };
        watched.set({ ...known, previews });
      } else watched.set({ ...known, job: { ...known.job, ...event.data } });
    }
  } finally {
    clearInterval(position);
  }
  const job = await api.getJob({ id }, { signal });
  const known = watched.get();
  watched.set({ job, previews: known?.previews ?? {}, progress: job.progress, problem: null });
  jobsChanged.set(jobsChanged.get() + 1);
}

/** Where it stands in line, and why it waits, is in no event. */
async function lookAtPosition(id: string, signal: AbortSignal): Promise<void> {
  if (document.hidden || watched.get()?.job.status !== 'queued') return;
  const job = await api.getJob({ id }, { signal }).catch(() => null);
  const known = watched.get();
  if (job?.status === 'queued' && known?.job.status === 'queued' && !signal.aborted)
    watched.set({ ...known, job, progress: job.progress });
}
