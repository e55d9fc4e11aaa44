import { CircleStop, Clapperboard, Dices, Download, Image as ImageIcon, RotateCcw } from 'lucide';
import { useEffect, useRef } from 'preact/hooks';
import { api, isOver, may } from '../api.js';
import { Asset, download, fileAddress } from '../assets.js';
import { useCell } from '../cell.js';
import { duration, isVideoType } from '../format.js';
import { addressOf } from '../route.js';
import { Button, Empty, Icon, Notice } from '../ui.js';
import { actionsFor } from '../gallery/actions.js';
import { promptOf } from './draft.js';
import { watched, type Watched } from './watch-job.js';

/** The job that is drawn now: its pictures as they become visible, where it stands, and what to do with them after. */
export function Stage({ count }: { count: number }) {
  const current = useCell(watched);
  const place = useRef<HTMLDivElement>(null);
  const id = current?.job.id;
  // Below the form, on a phone, it would begin out of sight.
  useEffect(() => {
    if (id !== undefined && (place.current?.getBoundingClientRect().top ?? 0) > innerHeight * 0.6)
      place.current?.scrollIntoView({ block: 'start', behavior: 'smooth' });
  }, [id]);
  if (current === null)
    return (
      <div class="stage blank">
        <Icon of={ImageIcon} size={28} />
        <Empty title="Nothing drawn yet">
          Write what you want to see, then Draw. <kbd>Ctrl</kbd> <kbd>Enter</kbd> does it from the field.
        </Empty>
      </div>
    );
  const { job, previews } = current;
  const cells = isVideoType(job.type) ? 1 : Math.max(job.assets.length, countOf(current) ?? count);
  return (
    <div class="stage" ref={place}>
      <Progress current={current} />
      <div class={`pictures of-${cells}`} data-status={job.status}>
        {Array.from({ length: cells }, (_, index) => (
          <div class="cell" key={index}>
            {job.status === 'completed' ? (
              <a
                href={addressOf('gallery', `${job.id}.${index}`)}
                aria-label={`Picture ${index + 1}, all settings`}
              >
                <Asset job={job} index={index} alt={promptOf(job)} />
              </a>
            ) : previews[index] !== undefined ? (
              <img class="picture preview" src={previews[index]} alt={`Preview of picture ${index + 1}`} />
            ) : (
              <div class={`pending${isOver(job.status) ? ' still' : ''}`} />
            )}
          </div>
        ))}
      </div>
      <After current={current} />
    </div>
  );
}

function countOf({ job }: Watched): number | null {
  const config = job.request?.['config'] as { num_images?: unknown } | undefined;
  const asked = config?.num_images;
  return typeof asked === 'number' ? asked : null;
}

const stages: Record<string, string> = {
  queued: 'Waiting',
  enhance: 'Writing a better prompt',
  references: 'Fetching the reference',
  text: 'Reading the prompt',
  denoise: 'Drawing',
  decode: 'Developing',
  encode: 'Saving',
  upload: 'Storing',
  done: 'Done',
};

function Progress({ current: { job, progress, problem } }: { current: Watched }) {
  const { stage, step, steps, fraction, eta_seconds: eta } = progress;
  const left = eta === null || eta === undefined ? '' : `about ${duration(eta)} left`;
  const line =
    job.status === 'queued'
      ? (job.waiting?.message ?? 'Next in line')
      : job.status === 'processing'
        ? `${stages[stage] ?? stage}${steps > 0 && stage === 'denoise' ? `, step ${step} of ${steps}` : ''}`
        : job.status === 'completed'
          ? `Done in ${duration(Number(job.metadata['generation_time'] ?? 0))}`
          : job.status === 'cancelled'
            ? 'Cancelled'
            : 'Failed';
  return (
    <div class="progress">
      <div class="progress-line">
        <p aria-live="polite" data-testid="state">
          {line}
        </p>
        {!isOver(job.status) && <span class="hint numbers">{left}</span>}
        {!isOver(job.status) && may('jobs') && (
          <Button
            tone="quiet"
            icon={CircleStop}
            label="Cancel"
            onClick={() => api.cancelJob({ id: job.id })}
          />
        )}
      </div>
      <progress
        max={1}
        value={isOver(job.status) ? 1 : job.status === 'queued' ? 0 : fraction}
        class={job.status}
        aria-label="Progress of the job"
      />
      {job.error_message !== undefined && <Notice tone="error">{job.error_message}</Notice>}
      {problem !== null && <Notice tone="warning">{problem}</Notice>}
    </div>
  );
}

function After({ current: { job } }: { current: Watched }) {
  if (!isOver(job.status)) return null;
  const { again, vary, asFirstFrame } = actionsFor(job);
  const first = fileAddress(job, 0);
  const notes = (job.metadata['prompt_notes'] as Array<{ text: string; note: string }> | undefined) ?? [];
  return (
    <>
      {notes.length > 0 && (
        <Notice>
          {notes.map(({ text, note }) => (
            <p key={text + note}>
              {text !== '' && (
                <>
                  <q>{text}</q>:{' '}
                </>
              )}
              {note}
            </p>
          ))}
        </Notice>
      )}
      <div class="actions">
        {job.status === 'completed' && <Button icon={Dices} label="Vary the seed" onClick={vary} />}
        <Button icon={RotateCcw} label="Again" onClick={again} />
        {job.status === 'completed' && !isVideoType(job.type) && (
          <Button icon={Clapperboard} label="As first frame" onClick={() => asFirstFrame(0)} />
        )}
        {job.status === 'completed' && first !== undefined && (
          <Button
            icon={Download}
            label="Download"
            onClick={() => download(first, first.split('/').at(-1)?.split('?')[0] ?? 'picture')}
          />
        )}
        <a class="button plain" href={addressOf('gallery', `${job.id}.0`)}>
          All settings
        </a>
      </div>
    </>
  );
}
