import t from 'tap';
import { createMaintenance } from '../../src/services/operations/maintenance.js';
import { silentLog, until } from '../engines/support.js';

t.test('a round that still waits for the store is not joined by another one', async (t) => {
  let announcements = 0;
  let reclaims = 0;
  let answer = () => {};
  const silent = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const maintenance = createMaintenance({
    store: {
      announce: () => {
        announcements += 1;
        return silent;
      },
      reclaimExpired: () => {
        reclaims += 1;
        return Promise.resolve([]);
      },
    },
    engines: { statuses: () => [] },
    health: () => 'healthy',
    runners: [],
    outlook: { announced: () => ({ takes: {}, job_seconds: {} }) },
    uploads: { clean: () => Promise.resolve() },
    capabilities: { possible: () => [] },
    workerId: 'w',
    leaseMs: 3000,
    announceMs: 5,
    log: silentLog,
  });
  maintenance.start();
  t.teardown(() => maintenance.stop());
  await until('another round of the leases', () => reclaims >= 2);
  t.equal(announcements, 1, 'many rounds later');
  answer();
  await until('the next announcement', () => announcements >= 2);
});
