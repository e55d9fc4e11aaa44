/**
 * `npm run test:chaos [-- seed]`: the long form. Prints the seed first; the same seed gives the same jobs and
 * blows.
 */
import { runChaos } from './chaos.js';

const seed = Number(process.argv[2] ?? Math.floor(Math.random() * 2 ** 31));
console.log(`seed ${seed} (repeat with: npm run test:chaos -- ${seed})`);
const report = await runChaos({
  seed,
  jobs: 500,
  services: 3,
  spanMs: 150_000,
  leaseSeconds: 4,
  failureRate: 0.3,
  patienceMs: 300_000,
  blows: {
    serviceKills: 18,
    engineKills: 24,
    freezes: 4,
    redisRestarts: 3,
    cuts: 4,
    outages: 2,
    outageMs: 15_000,
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
