import { RefreshCw, Trash2 } from 'lucide';
import { useState } from 'preact/hooks';
import { api, reason, type Schemas } from '../api.js';
import { ago, count, exactly } from '../format.js';
import { Button, Copyable, Empty, Head, Notice, Sure } from '../ui.js';
import { useLoaded } from '../use-loaded.js';

const lookMs = 5000;
/** So many of a queue are looked at, the newest. */
const mostLetters = 100;
type DeadReason = Schemas['DeadLetterReasons']['reasons'][number];
type Letter = Schemas['DeadLetters']['dead_letters'][number];

/** What was given up: jobs by their reason, and callbacks nobody took. */
export function FailedScreen() {
  const { data, problem, reload } = useLoaded(
    (signal) => api.listDeadLetterReasons({}, { signal }),
    [],
    lookMs,
  );
  const [said, setSaid] = useState('');
  const reasons = data?.reasons ?? [];
  const done = (text: string) => {
    setSaid(text);
    reload();
  };
  return (
    <>
      <Head title="Failed">
        <Button tone="quiet" icon={RefreshCw} label="Look again" onClick={reload} />
      </Head>
      {problem !== null && <Notice tone="error">{problem}</Notice>}
      {said !== '' && <Notice>{said}</Notice>}
      {data !== undefined && reasons.length === 0 && (
        <Empty title="No dead letters">
          Jobs that failed for a reason that may pass are tried again by themselves; what was given up is
          listed here.
        </Empty>
      )}
      {reasons.map((one) => (
        <Reason key={`${one.queue} ${one.reason}`} of={one} onDone={done} />
      ))}
      <Callbacks onDone={done} />
    </>
  );
}

function Reason({ of, onDone }: { of: DeadReason; onDone: (said: string) => void }) {
  const [open, setOpen] = useState(false);
  const body = { reason: of.reason, queue: of.queue };
  const many = async (what: 'requeue' | 'drop') => {
    let [changed, kept] = [0, 0];
    try {
      for (;;) {
        const answer = await (what === 'requeue'
          ? api.requeueDeadLetters({ body })
          : api.dropDeadLetters({ body }));
        changed += answer.done;
        kept = answer.kept;
        if (!answer.more || answer.done === 0) break;
      }
      const left = kept === 0 ? '' : ` ${count(kept, 'letter')} stayed: too large to be put back.`;
      onDone(`${count(changed, 'job')} ${what === 'requeue' ? 'put back in line' : 'dropped'}.${left}`);
    } catch (error) {
      onDone(reason(error));
    }
  };
  return (
    <section class="card reason">
      <div class="card-head">
        <span class="badge bad">{of.count}</span>
        <h2>{of.reason}</h2>
      </div>
      <p class="hint">
        {of.queue}, first {ago(of.oldest_at)}, last {ago(of.newest_at)}
      </p>
      <div class="actions">
        <Button
          icon={RefreshCw}
          label={`Requeue ${count(of.count, 'job')}`}
          onClick={() => many('requeue')}
        />
        <Sure
          icon={Trash2}
          label="Drop"
          sure={`Drop ${count(of.count, 'job')} for good`}
          onSure={() => many('drop')}
        />
        <Button
          tone="quiet"
          aria-expanded={open}
          label={open ? 'Hide them' : 'Look at them'}
          onClick={() => setOpen(!open)}
        />
      </div>
      {open && <Letters of={of} onDone={onDone} />}
    </section>
  );
}

function Letters({ of, onDone }: { of: DeadReason; onDone: (said: string) => void }) {
  const { data, problem, reload } = useLoaded(
    (signal) => api.listDeadLetters({ queue: of.queue, limit: mostLetters }, { signal }),
    [of.reason, of.queue, of.count],
  );
  const letters = data?.dead_letters.filter(isOf(of.reason)) ?? [];
  const then = (work: Promise<unknown>, said: string) =>
    work.then(
      () => {
        reload();
        onDone(said);
      },
      (error: unknown) => onDone(reason(error)),
    );
  return (
    <>
      {problem !== null && <Notice tone="error">{problem}</Notice>}
      {data !== undefined && letters.length < of.count && (
        <p class="hint">
          {letters.length} of {count(of.count, 'letter')}: those among the newest {mostLetters} of {of.queue}
        </p>
      )}
      <ul class="letters">
        {letters.map((letter) => (
          <li key={letter.id}>
            <div class="card-head">
              <h3>{letter.reason}</h3>
            </div>
            <p class="hint">
              {exactly(letter.at)}, after {count(letter.attempts, 'attempt')}
            </p>
            <Copyable label={`Payload of ${letter.job_id ?? letter.id}`} text={pretty(letter)} />
            <div class="actions">
              <Button
                label="Requeue"
                onClick={() => then(api.requeueDeadLetter({ id: letter.id }), 'Put back in line.')}
              />
              <Sure
                label="Drop"
                sure="Drop it for good"
                onSure={() => then(api.dropDeadLetter({ id: letter.id }), 'Dropped.')}
              />
            </div>
          </li>
        ))}
      </ul>
    </>
  );
}

/** Reasons of a group differ in ids and numbers, for which its own has an "…". */
function isOf(common: string): (letter: Letter) => boolean {
  const parts = common.split('…').map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'));
  const form = new RegExp(`^${parts.join('(?:[0-9a-f-]{36}|\\d[\\d.,]*|…)')}$`, 'i');
  return ({ reason }) => form.test(reason);
}

function pretty({ payload, encoding }: Letter): string {
  if (encoding !== undefined) return payload;
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return payload;
  }
}

function Callbacks({ onDone }: { onDone: (said: string) => void }) {
  const { data, reload } = useLoaded((signal) => api.listCallbacks({}, { signal }), [], lookMs);
  if (data === undefined || (data.dead.length === 0 && data.pending === 0)) return null;
  const retry = (body: { id?: string }) =>
    api.retryCallbacks({ body }).then(
      ({ retried }) => {
        reload();
        onDone(`${count(retried, 'callback')} in line again.`);
      },
      (error: unknown) => onDone(reason(error)),
    );
  return (
    <section class="card">
      <div class="card-head">
        <h2>Callbacks</h2>
        {data.dead.length > 0 && <span class="badge bad">{data.dead.length} given up</span>}
        {data.pending > 0 && <span class="badge">{data.pending} on their way</span>}
      </div>
      {data.dead.length > 0 && (
        <div class="actions">
          <Button icon={RefreshCw} label="Send all again" onClick={() => retry({})} />
        </div>
      )}
      <ul class="letters">
        {data.dead.map((one) => (
          <li key={one.id}>
            <h3>
              {one.event} of {one.job_id}
            </h3>
            <p class="hint">
              {one.url}, {count(one.attempts, 'attempt')}, {ago(one.created_at)}
            </p>
            {one.last_error !== undefined && <p>{one.last_error}</p>}
            <div class="actions">
              <Button label="Send again" onClick={() => retry({ id: one.id })} />
            </div>
          </li>
        ))}
      </ul>
    </section>
  );
}
