import { type Schemas, unreachable } from './api.js';
import { createCell } from './cell.js';

/** Grows when jobs changed their state: what lists them looks again. */
export const jobsChanged = createCell(0);
/** How far the jobs are that run. */
export const progressOf = createCell<ReadonlyMap<string, Schemas['JobProgress']>>(new Map());

/** Many changes within this while are one. */
const gatherMs = 400;

/** Follows all jobs by one stream, as long as somebody is signed in. */
export function followAll(): () => void {
  const stream = new EventSource('/events?previews=false');
  let gathering: ReturnType<typeof setTimeout> | undefined;
  const changed = () => {
    gathering ??= setTimeout(() => {
      gathering = undefined;
      jobsChanged.set(jobsChanged.get() + 1);
    }, gatherMs);
  };
  const read = (event: Event) =>
    JSON.parse((event as MessageEvent<string>).data) as { job_id: string } & Record<string, unknown>;

  stream.addEventListener('open', () => {
    unreachable.set(null);
    changed();
  });
  stream.addEventListener('reset', changed);
  stream.addEventListener('state', (event) => {
    const { job_id: id, status } = read(event);
    if (status !== 'processing' && progressOf.get().has(id)) {
      const rest = new Map(progressOf.get());
      rest.delete(id);
      progressOf.set(rest);
    }
    changed();
  });
  stream.addEventListener('progress', (event) => {
    const { job_id: id, ...progress } = read(event);
    progressOf.set(new Map(progressOf.get()).set(id, progress as unknown as Schemas['JobProgress']));
  });
  return () => {
    clearTimeout(gathering);
    stream.close();
  };
}
