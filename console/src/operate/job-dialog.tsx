import { CircleStop, RotateCcw, X } from 'lucide';
import { api, isOver, may } from '../api.js';
import { promptOf } from '../draw/draft.js';
import { ago, duration, exactly, typeName } from '../format.js';
import { actionsFor } from '../gallery/actions.js';
import { addressOf } from '../route.js';
import { Button, Copyable, Dialog, Facts, Notice } from '../ui.js';
import { useLoaded } from '../use-loaded.js';
import { statusNames, statusTones, whyOf } from './job-status.js';

const lookMs = 2000;

/** What a job says of itself: where it stands and why, its attempts, and what was asked for. */
export function JobDialog({
  id,
  onClose,
  onChanged,
}: {
  id: string;
  onClose: () => void;
  onChanged: () => void;
}) {
  const { data: job, problem } = useLoaded((signal) => api.getJob({ id }, { signal }), [id], lookMs);
  return (
    <Dialog look="sheet" label="Job" onClose={onClose}>
      {(close) => (
        <div class="sheet-inside">
          <div class="card-head">
            {job !== undefined && (
              <span class={`badge ${statusTones[job.status] ?? ''}`}>{statusNames[job.status]}</span>
            )}
            <Button tone="quiet" icon={X} iconOnly label="Close" onClick={close} />
          </div>
          {problem !== null && <Notice tone="error">{problem}</Notice>}
          {job !== undefined && (
            <>
              <h2 class="detail-prompt">{promptOf(job) || typeName(job.type)}</h2>
              {whyOf(job) !== '' && (
                <Notice tone={job.status === 'failed' ? 'error' : 'info'}>{whyOf(job)}</Notice>
              )}
              <div class="actions">
                {!isOver(job.status) && may('jobs') && (
                  <Button
                    icon={CircleStop}
                    label="Cancel"
                    onClick={() => api.cancelJob({ id }).then(onChanged, () => {})}
                  />
                )}
                {isOver(job.status) && (
                  <Button icon={RotateCcw} label="Again" onClick={() => actionsFor(job).again()} />
                )}
                {job.assets.length > 0 && (
                  <a class="button plain" href={addressOf('gallery', `${id}.0`)}>
                    See it
                  </a>
                )}
              </div>
              <Facts
                rows={[
                  ['Model', typeName(job.type)],
                  ['Created', `${exactly(job.created_at)}, ${ago(job.created_at)}`],
                  ['Attempts', String(job.attempts)],
                  ['Last error', job.last_error],
                  ['User', job.user_id],
                  ['Instance', job.worker_id],
                  ['Job', job.id],
                ]}
              />
              {job.history !== undefined && job.history.length > 0 && (
                <ol class="attempts">
                  {job.history.map((one) => (
                    <li key={one.attempt}>
                      <strong>Attempt {one.attempt}</strong> {one.outcome.replace('_', ' ')},{' '}
                      {duration((Date.parse(one.ended_at) - Date.parse(one.started_at)) / 1000)},{' '}
                      {ago(one.ended_at)}
                      {one.error !== undefined && <p class="hint">{one.error}</p>}
                    </li>
                  ))}
                </ol>
              )}
              {job.request !== undefined && (
                <Copyable label="What was asked for" text={JSON.stringify(job.request, null, 2)} />
              )}
            </>
          )}
        </div>
      )}
    </Dialog>
  );
}
