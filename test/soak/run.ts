/** `npm run test:soak [-- jobs [seed]]`: 5,000 jobs unless said otherwise; fails when memory grew, a job is stuck or a process was left. */
import { runSoak } from './soak.js';

const [jobs = 5000, seed = Date.now() % 100_000] = process.argv.slice(2).map(Number);
const say = (line: string) => process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
const report = await runSoak({ jobs, seed, say });
const ratio = report.lastTenthMb / report.secondTenthMb;
say(JSON.stringify({ ...report, wrong: report.wrong.slice(0, 10), ratio: Number(ratio.toFixed(3)) }, null, 2));
process.exitCode = ratio <= 1.05 && report.stuck === 0 && report.zombies === 0 && report.wrong.length === 0 ? 0 : 1;
