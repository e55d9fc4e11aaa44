import { api, type Job } from '../api.js';
import { thumbnailAddress } from '../assets.js';
import { change, draft, draftOf, emptyDraft, payloadOf, promptOf } from '../draw/draft.js';
import { watch } from '../draw/watch-job.js';
import { go } from '../route.js';

/** Puts a job in line and shows it on the stage. */
export async function draw(): Promise<void> {
  const { id } = await api.createJob({ body: payloadOf(draft.get()) as never });
  watch(id);
  go('draw');
}

/** What can be made of a job that is over. */
export function actionsFor(known: Job) {
  /** With everything it was asked with, which lists of jobs leave out. */
  const whole = () => ('request' in known ? Promise.resolve(known) : api.getJob({ id: known.id }));
  return {
    /** Into the form, as it was. */
    async again(): Promise<void> {
      draft.set(draftOf(await whole()));
      go('draw');
    },
    /** The same with another seed, at once. */
    async vary(): Promise<void> {
      draft.set({ ...draftOf(await whole()), seed: '' });
      await draw();
    },
    /** Of a video that is still to be described. */
    async asFirstFrame(index: number): Promise<void> {
      const job = await whole();
      draft.set({ ...emptyDraft, type: 'video_fast', prompt: promptOf(job) });
      change({
        reference: {
          source: `asset:${job.id}/${index}`,
          role: 'first',
          shown: thumbnailAddress(job, index, 256) ?? '',
          userId: job.user_id,
        },
        strength: 0.85,
      });
      go('draw');
    },
  };
}
