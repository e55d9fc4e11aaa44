import t from 'tap';
import { type JobInterrupt } from '../../src/services/jobs/failure.js';
import { keepLease } from '../../src/services/jobs/while-running.js';
import type { JobStore } from '../../src/services/queue/job-store.js';
import { silentLog, until } from '../engines/support.js';

t.test('a lease is renewed again and again, through failures, until it is lost or given up', async (t) => {
  let renewals = 0;
  let held = true;
  const renew = () => {
    renewals += 1;
    return renewals === 2
      ? Promise.reject(new Error('no answer'))
      : Promise.resolve({ held, cancelRequested: false });
  };
  const job = new AbortController();
  const keeper = keepLease({
    store: { renew } as Partial<JobStore> as JobStore,
    lease: { jobId: 'job' } as never,
    leaseMs: 30,
    job,
    log: silentLog,
  });
  t.teardown(() => keeper.stop());
  await until('the fifth renewal', () => renewals >= 5);
  t.notOk(job.signal.aborted);
  held = false;
  await until('the loss', () => job.signal.aborted);
  t.equal((job.signal.reason as JobInterrupt).kind, 'lease_lost');
});
