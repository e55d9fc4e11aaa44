/**
 * `npm run test:chaos [-- seed [jobs]]`: the long form, 500 jobs unless said otherwise. Prints the seed first;
 * the same seed gives the same jobs and blows. Broken off, it leaves no process behind.
 */
import { runChaos } from './chaos.js';

const [seed = Math.floor(Math.random() * 2 ** 31), jobs = 500] = process.argv.slice(2).map(Number);
console.log(`seed ${seed} (repeat with: npm run test:chaos -- ${seed} ${jobs})`);
/** So many of what the long form has so many of. */
const share = (times: number) => Math.max(1, Math.round((times * jobs) / 500));
const report = await runChaos({
  seed,
  jobs,
  services: Math.min(3, Math.ceil(jobs / 50)),
  spanMs: jobs * 300,
  leaseSeconds: 4,
  failureRate: 0.3,
  hostileShare: 0.01,
  patienceMs: 300_000,
  blows: {
    serviceKills: share(18),
    engineKills: share(24),
    serviceFreezes: share(4),
    engineFreezes: share(4),
    redisFreezes: share(2),
    redisRestarts: share(3),
    cuts: share(4),
    outages: share(2),
    outageMs: 15_000,
    failovers: share(5),
    fills: share(3),
    fillMs: 8000,
    expiries: share(5),
    expiryMs: 12_000,
  },
  say: (line) => console.log(line),
});
console.log(
  `\n| | |\n| --- | --- |\n${Object.entries(report.numbers)
    .map(([name, value]) => `| ${name} | ${value} |`)
    .join('\n')}`,
);
if (report.faults.length > 0) {
  console.log(
    `\n${report.faults.length} faults (seed ${seed}); logs in ${report.folder}\n${report.faults.join('\n')}`,
  );
  process.exitCode = 1;
} else {
  console.log(`\nNothing lost, nothing twice (seed ${seed}).`);
}
