import { ChevronLeft, ChevronRight, Clapperboard, Dices, Download, RotateCcw, Trash2, X } from 'lucide';
import { useState } from 'preact/hooks';
import { api, type Job, reason } from '../api.js';
import { Asset, download, fileAddress } from '../assets.js';
import { promptOf } from '../draw/draft.js';
import { ago, duration, exactly, isVideoType, typeName } from '../format.js';
import { Button, Dialog, Facts, Notice } from '../ui.js';
import { useLoaded } from '../use-loaded.js';
import { actionsFor } from './actions.js';

interface DetailProps {
  id: string;
  index: number;
  known: Job | undefined;
  onStep: (by: number) => void;
  onClose: () => void;
  onDeleted: () => void;
}

/** One picture or video, everything that made it, and what can be made of it. */
export function Detail({ id, index, known, onStep, onClose, onDeleted }: DetailProps) {
  const { data, problem } = useLoaded((signal) => api.getJob({ id }, { signal }), [id]);
  const [failed, setFailed] = useState('');
  const [sure, setSure] = useState(false);
  const job = data ?? known;

  const attempt = (action: () => Promise<unknown>) => async () => {
    setFailed('');
    await action().catch((error: unknown) => setFailed(reason(error)));
  };
  const address = job === undefined ? undefined : fileAddress(job, index);
  const actions = job === undefined ? undefined : actionsFor(job);

  return (
    <Dialog
      look="detail"
      label="Picture and settings"
      onClose={onClose}
      onKeyDown={({ key, target }) => {
        if (target instanceof HTMLVideoElement) return;
        if (key === 'ArrowLeft') onStep(-1);
        if (key === 'ArrowRight') onStep(1);
      }}
    >
      {(close) => (
        <div class="detail-inside">
          <div class="detail-picture">
            {job !== undefined && <Asset key={index} job={job} index={index} alt={promptOf(job)} />}
          </div>
          <div class="detail-side">
            <div class="detail-bar">
              <Button tone="quiet" icon={ChevronLeft} iconOnly label="Newer" onClick={() => onStep(-1)} />
              <Button tone="quiet" icon={ChevronRight} iconOnly label="Older" onClick={() => onStep(1)} />
              <Button tone="quiet" icon={X} iconOnly label="Close" onClick={close} />
            </div>
            {problem !== null && <Notice tone="error">{problem}</Notice>}
            {failed !== '' && <Notice tone="error">{failed}</Notice>}
            {job !== undefined && actions !== undefined && (
              <>
                <h2 class="detail-prompt">{promptOf(job) || typeName(job.type)}</h2>
                <div class="actions">
                  <Button icon={Dices} label="Vary the seed" onClick={attempt(actions.vary)} />
                  <Button icon={RotateCcw} label="Again" onClick={attempt(actions.again)} />
                  {!isVideoType(job.type) && (
                    <Button
                      icon={Clapperboard}
                      label="As first frame"
                      onClick={attempt(() => actions.asFirstFrame(index))}
                    />
                  )}
                  {address !== undefined && (
                    <Button
                      icon={Download}
                      label="Download"
                      onClick={() => download(address, nameOf(job, index, address))}
                    />
                  )}
                  <Button
                    tone={sure ? 'danger' : 'plain'}
                    icon={Trash2}
                    label={sure ? deleting(job) : 'Delete'}
                    onClick={
                      sure
                        ? attempt(async () => {
                            await api.deleteJobAssets({ id: job.id });
                            onDeleted();
                          })
                        : () => setSure(true)
                    }
                  />
                </div>
                <Settings job={job} index={index} />
              </>
            )}
          </div>
        </div>
      )}
    </Dialog>
  );
}

function nameOf(job: Job, index: number, address: string): string {
  const words =
    promptOf(job)
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  const [, ending = isVideoType(job.type) ? 'mp4' : 'png'] = /\.(\w+)(?:\?|$)/.exec(address) ?? [];
  return `${words.slice(0, 8).join('-') || job.id}-${index}.${ending}`;
}

function Settings({ job, index }: { job: Job; index: number }) {
  const { metadata } = job;
  const seeds = metadata['seeds'] as number[] | undefined;
  const text = (name: string) => {
    const value = metadata[name];
    return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
  };
  const size =
    text('width') !== undefined ? `${text('width')} × ${text('height')}` : (text('size') ?? undefined);
  const enhanced = text('enhanced_prompt');
  const rows: Array<[string, string | undefined]> = [
    ['Model', typeName(job.type)],
    ['Seed', String(seeds?.[index] ?? metadata['seed'] ?? '') || undefined],
    ['Size', size],
    ['Frames', isVideoType(job.type) ? (text('frame_num') ?? text('frames')) : undefined],
    ['Steps', text('steps') ?? text('sample_steps')],
    ['Guidance', text('guidance_scale')],
    ['Scheduler', text('scheduler') ?? text('sample_solver')],
    ['Weights', text('compel_weights')],
    ['Negative', text('negative_prompt') || undefined],
    ['Enhanced', enhanced === promptOf(job) ? undefined : enhanced],
    ['Reference', text('reference_mode') === 'none' ? undefined : text('reference_mode')],
    ['Strength', text('reference_strength')],
    [
      'Took',
      metadata['generation_time'] === undefined ? undefined : duration(Number(metadata['generation_time'])),
    ],
    [
      'Finished',
      job.finished_at === undefined ? undefined : `${exactly(job.finished_at)}, ${ago(job.finished_at)}`,
    ],
    ['User', job.user_id],
    ['Instance', job.worker_id],
    ['Job', job.id],
  ];
  return <Facts rows={rows} />;
}

/** A job's files go together: whoever looks at one of several is told. */
const deleting = ({ assets }: Job) =>
  assets.length > 1 ? `Delete all ${assets.length} files of this job for good` : 'Delete its files for good';
