import { api, may } from './api.js';
import { useCell } from './cell.js';
import { jobsChanged } from './live.js';
import type { Screen } from './route.js';
import { useLoaded } from './use-loaded.js';

const lookMs = 15_000;

/** Beside a screen's name: how many wait, how many were given up, whether something is wrong. */
export function Marks({ of }: { of: Screen }) {
  if (of === 'queue' && may('status')) return <Waiting />;
  if (of === 'failed') return <Dead />;
  if (of === 'health') return <Unwell />;
  return null;
}

function Waiting() {
  const changes = useCell(jobsChanged);
  const { data } = useLoaded((signal) => api.listQueues({}, { signal }), [changes], lookMs);
  const open = data?.queues.reduce(
    (sum, { waiting, delayed, running }) => sum + waiting + delayed + running,
    0,
  );
  return open ? (
    <span class="count">
      {open.toLocaleString('en')}
      <span class="unseen"> waiting or running</span>
    </span>
  ) : null;
}

function Dead() {
  // Not at each change of a job: the service goes through all dead letters for it.
  const { data } = useLoaded((signal) => api.listDeadLetterReasons({}, { signal }), [], lookMs);
  const dead = data?.reasons.reduce((sum, { count }) => sum + count, 0);
  return dead ? (
    <span class="count bad">
      {dead.toLocaleString('en')}
      <span class="unseen"> dead letters</span>
    </span>
  ) : null;
}

function Unwell() {
  const { data } = useLoaded((signal) => api.getHealth({}, { signal }), [], lookMs);
  if (data === undefined || data.status === 'healthy') return null;
  return (
    <span class={`dot ${data.status === 'degraded' ? 'warn' : ''}`}>
      <span class="unseen">{data.status}</span>
    </span>
  );
}
