import { Dices, Sparkles, Undo2 } from 'lucide';
import { useEffect, useRef, useState } from 'preact/hooks';
import { api, type Capabilities, may, OurVidzError, reason } from '../api.js';
import { thumbnailAddress } from '../assets.js';
import { useCell } from '../cell.js';
import { isVideoType, typeName } from '../format.js';
import { draw } from '../gallery/actions.js';
import { jobsChanged } from '../live.js';
import { Button, Choice, Field, Head, Notice } from '../ui.js';
import { useLoaded } from '../use-loaded.js';
import {
  anySeed,
  change,
  draft,
  type Draft,
  isSdxl,
  promptOf,
  typesFor,
  type World,
  worldOf,
} from './draft.js';
import { ReferenceField } from './reference.js';
import { SizeField } from './size.js';
import { Stage } from './stage.js';
import { staged, watch, watched } from './watch-job.js';
import { Weights } from './weights.js';

export function DrawScreen({ capabilities }: { capabilities: Capabilities | undefined }) {
  const form = useCell(draft);
  useEffect(() => {
    const { id } = staged.get();
    if (id !== null && watched.get() === null) watch(id);
  }, []);
  return (
    <>
      <Head title="Draw" />
      <div class="draw">
        <Form draft={form} capabilities={capabilities} />
        <section class="result" aria-label="Result">
          <Stage count={form.count} />
          <Recent />
        </section>
      </div>
    </>
  );
}

function Form({ draft: form, capabilities }: { draft: Draft; capabilities: Capabilities | undefined }) {
  const [problem, setProblem] = useState('');
  const output = isVideoType(form.type) ? 'video' : 'image';
  const types = typesFor(capabilities, output);
  const canVideo = typesFor(capabilities, 'video').some(({ available }) => available);
  const world = worldOf(capabilities, form.type);

  async function submit(): Promise<void> {
    setProblem('');
    try {
      await draw();
    } catch (error) {
      const details = error instanceof OurVidzError ? error.details.map(({ message }) => message) : [];
      setProblem(details.length > 0 ? details.join('; ') : reason(error));
    }
  }

  return (
    <form
      class="form"
      aria-label="What to draw"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
      onKeyDown={(event) => {
        if (event.key === 'Enter' && (event.ctrlKey || event.metaKey) && form.prompt.trim() !== '')
          void submit();
      }}
    >
      <Choice
        label="Make"
        value={output}
        options={[
          { value: 'image', label: 'Picture' },
          {
            value: 'video',
            label: 'Video',
            disabled: capabilities !== undefined && !canVideo,
            ...(canVideo ? {} : { title: whyNoVideo(capabilities) }),
          },
        ]}
        onChange={(to) =>
          change({
            type: to === 'video' ? 'video_fast' : 'sdxl_image_fast',
            ...(form.reference === null
              ? {}
              : { reference: { ...form.reference, role: to === 'video' ? 'first' : 'picture' } }),
          })
        }
      />
      <Prompt draft={form} output={output} />
      <Examples world={world} />
      <div class="pair">
        <Field label="Model">
          {(id) => (
            <select
              id={id}
              value={form.type}
              onChange={({ currentTarget }) => change({ type: currentTarget.value })}
            >
              {types.length === 0 && <option value={form.type}>{typeName(form.type)}</option>}
              {types.map(({ type, available }) => (
                <option key={type} value={type} disabled={!available}>
                  {typeName(type)}
                </option>
              ))}
            </select>
          )}
        </Field>
        <SizeField draft={form} limits={capabilities?.limits} native={world?.native_size ?? null} />
      </div>
      <div class="pair">
        <Field label="Seed" hint={form.seed === '' ? 'another each time' : ''}>
          {(id) => (
            <div class="joined">
              <input
                id={id}
                class="numbers"
                inputMode="numeric"
                pattern="[0-9]*"
                placeholder="random"
                value={form.seed}
                onInput={({ currentTarget }) => change({ seed: currentTarget.value.replace(/\D/g, '') })}
              />
              <Button
                icon={Dices}
                iconOnly
                label="Roll a seed"
                onClick={() => change({ seed: String(anySeed()) })}
              />
            </div>
          )}
        </Field>
        {output === 'video' ? (
          <Frames frames={form.frames} limits={capabilities?.limits} usual={world?.native_frames} />
        ) : (
          <Choice
            label="Pictures"
            value={isSdxl(form.type) ? form.count : 1}
            options={[1, 3, 6].map((value) => ({
              value,
              label: String(value),
              disabled: value > 1 && !isSdxl(form.type),
            }))}
            onChange={(count) => change({ count })}
          />
        )}
      </div>
      <details open={form.reference !== null}>
        <summary>Reference</summary>
        <ReferenceField draft={form} />
      </details>
      {isSdxl(form.type) && (
        <details>
          <summary>Weights</summary>
          <Weights prompt={form.prompt} onChange={(prompt) => change({ prompt })} />
        </details>
      )}
      {isSdxl(form.type) && (
        <details open={form.negative !== ''}>
          <summary>Not in the picture</summary>
          <Field label="Negative prompt">
            {(id) => (
              <textarea
                id={id}
                rows={2}
                value={form.negative}
                placeholder="Chosen for you when empty"
                onInput={({ currentTarget }) => change({ negative: currentTarget.value })}
              />
            )}
          </Field>
        </details>
      )}
      {problem !== '' && <Notice tone="error">{problem}</Notice>}
      <div class="submit">
        <button class="button main" type="submit" disabled={form.prompt.trim() === '' || !may('jobs')}>
          Draw
        </button>
      </div>
    </form>
  );
}

function whyNoVideo(capabilities: Capabilities | undefined): string {
  const off = capabilities?.features_off.find(({ feature }) => feature === 'video' || feature === 'wan');
  return off?.reason ?? 'This instance makes no videos';
}

/** The field, which a model may write into while one looks. */
function Prompt({ draft: { prompt }, output }: { draft: Draft; output: 'image' | 'video' }) {
  const [before, setBefore] = useState<string | null>(null);
  const [problem, setProblem] = useState('');
  const writing = useRef<AbortController | null>(null);
  useEffect(() => () => writing.current?.abort(), []);

  async function enhance(): Promise<void> {
    const original = prompt;
    const abort = (writing.current = new AbortController());
    setProblem('');
    let written = '';
    try {
      for await (const event of api.enhanceStream(
        { prompt: original, target: output },
        { signal: abort.signal },
      )) {
        if (event.event === 'discard') written = '';
        if (event.event === 'token') change({ prompt: (written += event.data.text).trimStart() });
        if (event.event === 'done' && event.data.success) change({ prompt: event.data.enhanced_prompt });
        if (event.event === 'error' || (event.event === 'done' && !event.data.success))
          throw new Error('error' in event.data ? event.data.error : 'No better prompt was written');
      }
      setBefore(original);
    } catch (error) {
      change({ prompt: original });
      if (!abort.signal.aborted) setProblem(reason(error));
    }
  }

  return (
    <div class="prompt">
      <Field label="Prompt" hint={prompt.length > 300 ? `${prompt.length} characters` : undefined}>
        {(id) => (
          <textarea
            id={id}
            name="prompt"
            rows={4}
            value={prompt}
            placeholder="a red circle above a blue square"
            onInput={({ currentTarget }) => {
              setBefore(null);
              change({ prompt: currentTarget.value });
            }}
          />
        )}
      </Field>
      <div class="prompt-actions">
        {before !== null && (
          <Button
            tone="quiet"
            icon={Undo2}
            label="Undo"
            onClick={() => {
              change({ prompt: before });
              setBefore(null);
            }}
          />
        )}
        <Button
          tone="quiet"
          icon={Sparkles}
          label="Enhance"
          disabled={prompt.trim() === '' || !may('enhance')}
          onClick={enhance}
        />
      </div>
      {problem !== '' && <Notice tone="warning">{problem}</Notice>}
    </div>
  );
}

function Examples({ world }: { world: World | null }) {
  if (world === null) return null;
  return (
    <div class="world">
      <p class="hint">{world.sentence}</p>
      <div class="chips" role="group" aria-label="Examples">
        {world.examples.map((example) => (
          <button type="button" class="chip" key={example} onClick={() => change({ prompt: example })}>
            {example}
          </button>
        ))}
      </div>
    </div>
  );
}

const framesPerSecond = 16;

function Frames({
  frames,
  limits,
  usual,
}: {
  frames: number | null;
  limits: Capabilities['limits'] | undefined;
  usual: number | undefined;
}) {
  const { maximum = 161 } = limits?.frames ?? {};
  const choices = [17, 33, 49, 81, 161].filter((each) => each <= maximum);
  return (
    <Field label="Length">
      {(id) => (
        <select
          id={id}
          value={frames ?? ''}
          onChange={({ currentTarget: { value } }) => change({ frames: value === '' ? null : Number(value) })}
        >
          <option value="">{usual === undefined ? 'As usual' : `As usual, ${usual} frames`}</option>
          {choices.map((each) => (
            <option key={each} value={each}>
              {Math.round((each - 1) / framesPerSecond)} s, {each} frames
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** What was drawn last: a click shows it on the stage. */
function Recent() {
  const round = useCell(jobsChanged);
  const current = useCell(watched);
  const { data } = useLoaded(
    (signal) => api.listJobs({ limit: 12, status: 'completed' }, { signal }),
    [round],
  );
  const jobs = data?.jobs.filter(({ assets }) => assets.length > 0) ?? [];
  if (jobs.length === 0) return null;
  return (
    <div class="recent">
      <h2>Lately</h2>
      <ul>
        {jobs.map((job) => (
          <li key={job.id}>
            <button
              type="button"
              aria-current={current?.job.id === job.id}
              aria-label={promptOf(job) || typeName(job.type)}
              title={promptOf(job)}
              onClick={() => watch(job.id)}
            >
              <img src={thumbnailAddress(job, 0, 128)} alt="" loading="lazy" />
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
