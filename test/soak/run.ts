/**
 * `npm run test:soak [-- [--healthy] [jobs [seed]]]`: 5,000 jobs in trouble, or 1,000 healthy ones, unless said otherwise. Fails when
 * memory grew, a job is stuck or ended otherwise than it had to, a process was left; and, healthy, when an engine was ended
 * or called anything but healthy.
 */
import { runSoak } from './soak.js';

const args = process.argv.slice(2);
const healthy = args.includes('--healthy');
const [jobs = healthy ? 1000 : 5000, seed = Date.now() % 100_000] = args.filter((arg) => !arg.startsWith('--')).map(Number);
const say = (line: string) => process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
const report = await runSoak({ jobs, seed, healthy, say });
const ratio = report.lastTenthMb / report.secondTenthMb;
say(JSON.stringify({ ...report, wrong: report.wrong.slice(0, 10), notWell: report.notWell.slice(0, 10), ratio: Number(ratio.toFixed(3)) }, null, 2));
const well = healthy ? report.engineRestarts === 0 && report.notWell.length === 0 : ratio <= 1.05;
process.exitCode = well && report.stuck === 0 && report.zombies === 0 && report.wrong.length === 0 ? 0 : 1;
