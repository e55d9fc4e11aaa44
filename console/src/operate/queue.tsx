import { CirclePause, CirclePlay, CircleStop } from 'lucide';
import { useState } from 'preact/hooks';
import { api, isOver, type Job, may, reason, type Schemas } from '../api.js';
import { useCell } from '../cell.js';
import { promptOf } from '../draw/draft.js';
import { ago, count, duration, typeName } from '../format.js';
import { jobsChanged, progressOf } from '../live.js';
import { addressOf, go } from '../route.js';
import { Button, Choice, Empty, Facts, Head, Notice, Search, Sentinel, Sure } from '../ui.js';
import { useJobs } from '../use-jobs.js';
import { useLoaded } from '../use-loaded.js';
import { JobDialog } from './job-dialog.js';
import { type Status, statusNames, statusTones, whyOf } from './job-status.js';

type QueueState = Schemas['QueueState'];
const lookMs = 10_000;

/** What waits and runs, why, and everything that was: to hold, stop and look into. */
export function QueueScreen({ item }: { item: string | null }) {
  const [status, setStatus] = useState<Status>('all');
  const [text, setText] = useState('');
  const list = useJobs(status, text);
  const [said, setSaid] = useState('');
  const open = list.jobs.filter((job) => !isOver(job.status));

  async function cancelAll(): Promise<void> {
    const words = text.trim();
    const filter = { status: 'queued' as const, ...(words === '' ? {} : { text: words }) };
    let [cancelled, more] = [0, true];
    while (more) {
      const answer = await api.cancelJobs({ body: filter });
      cancelled += answer.cancelled;
      more = answer.more && answer.cancelled > 0;
    }
    setSaid(`${count(cancelled, 'job')} cancelled.`);
    list.reload();
  }

  return (
    <>
      <Head title="Queue">
        <Search text={text} onChange={setText} />
      </Head>
      {may('status') && <Queues onProblem={setSaid} />}
      <div class="list-head">
        <Choice
          label="Jobs"
          value={status}
          onChange={setStatus}
          options={(['all', 'queued', 'processing', 'completed', 'failed', 'cancelled'] as const).map(
            (value) => ({ value, label: statusNames[value] }),
          )}
        />
        {may('jobs') && open.some((job) => job.status === 'queued') && (
          <Sure
            icon={CircleStop}
            label={text.trim() === '' ? 'Cancel all that wait' : 'Cancel what waits and fits'}
            sure="Yes, cancel them"
            onSure={() => cancelAll().catch((error: unknown) => setSaid(reason(error)))}
          />
        )}
      </div>
      {said !== '' && <Notice>{said}</Notice>}
      {list.problem !== null && <Notice tone="error">{list.problem}</Notice>}
      {list.jobs.length === 0 && !list.more ? <Empty title="No jobs" /> : <Jobs jobs={list.jobs} />}
      {list.more && <Sentinel onSeen={list.loadMore} />}
      {item !== null && (
        <JobDialog key={item} id={item} onClose={() => go('queue')} onChanged={list.reload} />
      )}
    </>
  );
}

function Queues({ onProblem }: { onProblem: (text: string) => void }) {
  const changes = useCell(jobsChanged);
  const { data, reload } = useLoaded((signal) => api.listQueues({}, { signal }), [changes], lookMs);
  if (data === undefined) return null;
  const set = (queue: QueueState) => () =>
    (queue.paused === null
      ? api.pauseQueue({ queue: queue.queue, body: {} })
      : api.resumeQueue({ queue: queue.queue })
    )
      .then(reload)
      .catch((error: unknown) => onProblem(reason(error)));
  return (
    <div class="cards">
      {data.queues.map((queue) => (
        <section class="card" key={queue.queue} aria-label={queue.queue}>
          <div class="card-head">
            <h2>{queue.queue === 'sdxl_queue' ? 'SDXL' : 'WAN'}</h2>
            {queue.paused !== null && <span class="badge warn">Paused</span>}
            {may('operate') && (
              <Button
                tone="quiet"
                icon={queue.paused === null ? CirclePause : CirclePlay}
                label={queue.paused === null ? 'Pause' : 'Resume'}
                onClick={set(queue)}
              />
            )}
          </div>
          <Facts
            look="figures"
            rows={[
              ['Waiting', (queue.waiting + queue.delayed).toLocaleString('en')],
              ['Running', queue.running],
              ['A job takes', queue.job_seconds === null ? '–' : duration(queue.job_seconds)],
              ['Empty in', queue.empty_in_seconds ? duration(queue.empty_in_seconds) : '–'],
            ]}
          />
          {queue.paused !== null && (
            <p class="hint">
              By {queue.paused.by}, {ago(queue.paused.since)}
              {queue.paused.reason === undefined ? '' : `: ${queue.paused.reason}`}
            </p>
          )}
          {queue.trouble !== undefined && queue.paused === null && <p class="hint">{queue.trouble}</p>}
        </section>
      ))}
    </div>
  );
}

function Jobs({ jobs }: { jobs: Job[] }) {
  const running = useCell(progressOf);
  return (
    <div class="rows" role="table" aria-label="Jobs">
      <div class="row row-head" role="row">
        {['State', 'Prompt', 'Model', 'Since', ''].map((name) => (
          <span role="columnheader" key={name}>
            {name === '' ? <span class="unseen">What to do</span> : name}
          </span>
        ))}
      </div>
      {jobs.map((job) => (
        <div class="row" role="row" key={job.id}>
          <span role="cell">
            <span class={`badge ${statusTones[job.status] ?? ''}`}>{statusNames[job.status]}</span>
          </span>
          <span role="cell" class="row-main">
            <a href={addressOf('queue', job.id)}>{promptOf(job) || job.id}</a>
            <span class="hint">{whyOf(job, running.get(job.id))}</span>
          </span>
          <span role="cell">{typeName(job.type)}</span>
          <span role="cell">{ago(job.since ?? job.finished_at ?? job.started_at ?? job.created_at)}</span>
          <span role="cell">
            {!isOver(job.status) && may('jobs') && (
              <Button
                tone="quiet"
                icon={CircleStop}
                iconOnly
                label={`Cancel ${promptOf(job) || job.id}`}
                onClick={() => api.cancelJob({ id: job.id }).catch(() => {})}
              />
            )}
          </span>
        </div>
      ))}
    </div>
  );
}
