import { api, type Schemas } from './api.js';
import { createCell } from './cell.js';

/** Grows when jobs changed their state: what lists them looks again. */
export const jobsChanged = createCell(0);
/** How far the jobs are that run. */
export const progressOf = createCell<ReadonlyMap<string, Schemas['JobProgress']>>(new Map());

/** Many changes within this while are one. */
const gatherMs = 400;

/** Follows all jobs by one stream, as long as somebody is signed in. */
export function followAll(): () => void {
  const leave = new AbortController();
  let gathering: ReturnType<typeof setTimeout> | undefined;
  const changed = () => {
    gathering ??= setTimeout(() => {
      gathering = undefined;
      jobsChanged.set(jobsChanged.get() + 1);
    }, gatherMs);
  };
  const follow = async () => {
    const { signal } = leave;
    for await (const message of api.followJobs({
      previews: false,
      signal,
      giveUpAfterMs: Infinity,
      onOpen: changed,
    })) {
      if (message.event === 'progress') {
        const { job_id: id, ...progress } = message.data;
        progressOf.set(new Map(progressOf.get()).set(id, progress));
      } else if (message.event !== 'preview') {
        if (message.event === 'state' && message.data.status !== 'processing') forget(message.data.job_id);
        changed();
      }
    }
  };
  // Only a refusal ends it: the answer to whatever is asked next says so, and lists look again by themselves.
  follow().catch(() => {});
  return () => {
    clearTimeout(gathering);
    leave.abort();
  };
}

function forget(id: string): void {
  if (!progressOf.get().has(id)) return;
  const rest = new Map(progressOf.get());
  rest.delete(id);
  progressOf.set(rest);
}
