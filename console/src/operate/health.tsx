import { RotateCcw, ScrollText } from 'lucide';
import { useState } from 'preact/hooks';
import { api, may, reason, type Schemas } from '../api.js';
import { ago, bytes, count, duration, engineName } from '../format.js';
import { Button, Dialog, Empty, Facts, Head, Notice } from '../ui.js';
import { useLoaded } from '../use-loaded.js';
import { Sparkline } from './sparkline.js';

const lookMs = 3000;
const instancesMs = 10_000;
const historyMs = 60_000;
type Trouble = Schemas['Trouble'];
type Status = Schemas['WorkerStatus'];
type Instance = NonNullable<Status['instances']>[number];

/** What is wrong and what to do; engines, memory, instances, and how the last hour was. */
export function HealthScreen() {
  const status = useLoaded((signal) => api.getWorkerStatus({}, { signal }), [], lookMs);
  const resources = useLoaded((signal) => api.getWorkerResources({}, { signal }), [], lookMs);
  const [said, setSaid] = useState('');
  const health = status.data?.health;
  return (
    <>
      <Head title="Health">
        {health !== undefined && (
          <span class={`badge ${{ healthy: 'good', degraded: 'warn', unhealthy: 'bad' }[health]}`}>
            {health}
          </span>
        )}
      </Head>
      {status.problem !== null && <Notice tone="error">{status.problem}</Notice>}
      {said !== '' && <Notice>{said}</Notice>}
      {status.data !== undefined && <Troubles troubles={status.data.troubles} />}
      {status.data !== undefined && <Engines status={status.data} onSaid={setSaid} />}
      {resources.data !== undefined && status.data !== undefined && (
        <Memory resources={resources.data} workers={status.data.workers} />
      )}
      <LastHour />
      <Instances onSaid={setSaid} />
    </>
  );
}

const severities = { critical: 'bad', error: 'bad', warning: 'warn' };

function Troubles({ troubles }: { troubles: Trouble[] }) {
  return (
    <section class="section" aria-label="What is wrong" aria-live="polite">
      {troubles.length === 0 ? (
        <p class="hint">Nothing is wrong.</p>
      ) : (
        <ul class="troubles">
          {troubles.map((one) => (
            <li key={`${one.code} ${one.target ?? ''}`} class={severities[one.severity]}>
              <div class="card-head">
                <span class={`badge ${severities[one.severity]}`}>{one.severity}</span>
                <h2>{one.what}</h2>
                <span class="hint">{ago(one.since)}</span>
              </div>
              <p>{one.cause}</p>
              <p class="cure">{one.cure}</p>
              {one.next_try_at !== undefined && <p class="hint">Next try {ago(one.next_try_at)}.</p>}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

const stateTones: Record<string, string> = {
  ready: 'good',
  busy: 'good',
  failed: 'bad',
  backing_off: 'bad',
  restarting: 'warn',
  starting: 'warn',
  warming: 'warn',
  draining: 'warn',
};

function Engines({ status, onSaid }: { status: Status; onSaid: (text: string) => void }) {
  const [logsOf, setLogsOf] = useState<string | null>(null);
  const restart = (id: string) => () =>
    api.restartWorker({ worker_id: id }).then(
      ({ estimated_startup_time: time }) =>
        onSaid(`${engineName(id)} restarts after its job; it takes about ${time}.`),
      (error: unknown) => onSaid(reason(error)),
    );
  return (
    <section class="section" aria-label="Engines">
      <div class="cards">
        {Object.entries(status.workers).map(([id, worker]) => (
          <div class="card engine" key={id} data-engine={id} data-state={worker.state}>
            <div class="card-head">
              <h2>{engineName(id)}</h2>
              <span class={`badge ${stateTones[worker.state] ?? ''}`}>
                {worker.resting === true ? 'resting' : worker.state.replace('_', ' ')}
              </span>
            </div>
            <Facts
              look="figures"
              rows={[
                ['Up', worker.uptime === 0 ? '–' : duration(worker.uptime)],
                ['Jobs', worker.jobs_processed],
                ['Errors', worker.error_count],
                [
                  'Memory',
                  typeof worker.memory_usage_bytes === 'number' ? bytes(worker.memory_usage_bytes) : '–',
                ],
              ]}
            />
            {(worker.trouble || worker.reason) && <p class="hint">{worker.trouble ?? worker.reason}</p>}
            {may('operate') && (
              <div class="actions">
                <Button icon={RotateCcw} label="Restart" onClick={restart(id)} />
                <Button tone="quiet" icon={ScrollText} label="Log" onClick={() => setLogsOf(id)} />
              </div>
            )}
          </div>
        ))}
      </div>
      {logsOf !== null && <Logs key={logsOf} of={logsOf} onClose={() => setLogsOf(null)} />}
    </section>
  );
}

function Logs({ of, onClose }: { of: string; onClose: () => void }) {
  const { data, problem } = useLoaded(
    (signal) => api.getWorkerLogs({ worker_id: of }, { signal }),
    [of],
    lookMs,
  );
  const exit = data?.last_exit;
  return (
    <Dialog look="sheet" label={`Log of ${engineName(of)}`} onClose={onClose}>
      {(close) => (
        <div class="sheet-inside">
          <div class="card-head">
            <h2>Log of {engineName(of)}</h2>
            <Button tone="quiet" label="Close" onClick={close} />
          </div>
          {problem !== null && <Notice tone="error">{problem}</Notice>}
          {exit && (
            <Notice tone="warning">
              It ended {ago(exit.at)}
              {exit.stage === null ? '' : ` during ${exit.stage}`}: {exit.reason}
            </Notice>
          )}
          {data !== undefined && (
            <pre class="log" tabIndex={0} aria-label="Lines">
              {data.lines.length === 0 ? 'It has printed nothing.' : data.lines.join('\n')}
            </pre>
          )}
        </div>
      )}
    </Dialog>
  );
}

/** Who is on the card, as parts of what it holds; without a card, of main memory. */
function Memory({
  resources: { gpu, memory_budget: budget },
  workers,
}: {
  resources: Schemas['WorkerResources'];
  workers: Status['workers'];
}) {
  const capacity = budget?.capacity_bytes ?? null;
  const parts = Object.entries(workers).map(([kind, worker]) => {
    const model = budget?.models[kind];
    const onCard =
      model?.resident === true
        ? (model.measured_bytes ?? model.resident_bytes) + (model.busy ? model.working_bytes : 0)
        : 0;
    const held = capacity === null ? (worker.memory_usage_bytes ?? 0) : onCard;
    return { kind, held, busy: worker.state === 'busy' };
  });
  const used = parts.reduce((sum, { held }) => sum + held, 0);
  const free = capacity === null ? 0 : Math.max(0, capacity - used);
  const total = Math.max(1, used + free);
  const shown = parts.map((part, index) => ({ ...part, index })).filter(({ held }) => held > 0);
  return (
    <section class="section" aria-label="Memory">
      <div class="section-head">
        <h2>Memory</h2>
        <span class="hint">
          {gpu.name === 'none' ? 'No graphics card: models live in main memory' : gpu.name}
          {capacity === null ? '' : `, ${bytes(capacity)} for models`}
          {(budget?.waiting ?? 0) === 0 ? '' : `, ${count(budget?.waiting ?? 0, 'request')} waiting for room`}
        </span>
      </div>
      <div class="memory" aria-hidden="true">
        {shown.map(({ kind, held, index }) => (
          <span key={kind} class={`part part-${index}`} style={{ flexGrow: held / total }} />
        ))}
        {free > 0 && <span class="part rest" style={{ flexGrow: free / total }} />}
      </div>
      <ul class="legend">
        {shown.map(({ kind, held, busy, index }) => (
          <li key={kind}>
            <i class={`part-${index}`} /> {engineName(kind)} <b>{bytes(held)}</b>
            {busy ? ', busy' : ''}
          </li>
        ))}
        {shown.length === 0 && <li>No model is loaded.</li>}
        {free > 0 && (
          <li>
            <i class="rest" /> Free <b>{bytes(free)}</b>
          </li>
        )}
      </ul>
    </section>
  );
}

const whole = (value: number) => value.toLocaleString('en');

function LastHour() {
  const { data } = useLoaded((signal) => api.getWorkerHistory({}, { signal }), [], historyMs);
  if (data === undefined) return null;
  const { samples } = data;
  const lines: Array<[string, Array<number | null>, (value: number) => string]> = [
    ['Waiting', samples.map((one) => one.waiting), whole],
    ['Running', samples.map((one) => one.running), whole],
    ['Finished a minute', samples.map((one) => one.finished), whole],
    ['Failed a minute', samples.map((one) => one.failed), whole],
    ['Memory of the service', samples.map((one) => one.service_bytes), bytes],
    ['Memory of the card', samples.map((one) => one.gpu_bytes), bytes],
    ['Use of the card', samples.map((one) => one.gpu_utilization), (value) => `${Math.round(value * 100)} %`],
  ];
  return (
    <section class="section" aria-label="The last hour">
      <div class="section-head">
        <h2>The last hour</h2>
      </div>
      {samples.length < 2 ? (
        <p class="hint">The first lines appear two minutes after the start.</p>
      ) : (
        <div class="sparks">
          {lines
            .filter(([, values]) => values.some((value) => value !== null))
            .map(([label, values, write]) => (
              <Sparkline key={label} label={label} values={values} write={write} />
            ))}
        </div>
      )}
    </section>
  );
}

/** Asked for apart: they are in the queue, and what is wrong is to be seen when that is away. */
function Instances({ onSaid }: { onSaid: (text: string) => void }) {
  const { data, reload } = useLoaded(
    (signal) => api.getWorkerStatus({ scope: 'cluster' }, { signal }),
    [],
    instancesMs,
  );
  if (data?.instances === undefined) return null;
  const { instances, worker_id: own } = data;
  const set = (one: Instance) => () =>
    (one.draining
      ? api.resumeInstance({ worker_id: one.worker_id })
      : api.drainInstance({ worker_id: one.worker_id, body: {} })
    ).then(reload, (error: unknown) => onSaid(reason(error)));
  return (
    <section class="section" aria-label="Instances">
      <div class="section-head">
        <h2>Instances</h2>
        <span class="hint">{count(instances.length, 'process', 'processes')} on this queue</span>
      </div>
      {instances.length === 0 && <Empty title="None has reported yet" />}
      <ul class="lines">
        {instances.map((one) => (
          <li key={one.worker_id}>
            <div>
              <strong>{one.host}</strong> <span class="hint mono">{one.worker_id}</span>
              {one.worker_id === own && <span class="badge">this one</span>}
              {one.draining && <span class="badge warn">draining</span>}
            </div>
            <span class="hint">
              pid {one.pid}, since {ago(one.started_at)}, seen {ago(one.seen_at)}
            </span>
            {may('operate') && (
              <Button tone="quiet" label={one.draining ? 'Take jobs again' : 'Drain'} onClick={set(one)} />
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}
