/**
 * `npm run test:soak [-- [--healthy | --real] [jobs [seed]]]`: 5,000 jobs in trouble, or 1,000 healthy ones, with the test engine or
 * with real ones, unless said otherwise. Fails when memory grew, a job is stuck or ended otherwise than it had to, a process
 * was left; and, healthy or real, when an engine was ended or called anything but healthy.
 */
import { runSoak, type SoakKind } from './soak.js';

const args = process.argv.slice(2);
const kind: SoakKind = args.includes('--healthy') ? 'healthy' : args.includes('--real') ? 'real' : 'trouble';
const [jobs = kind === 'trouble' ? 5000 : 1000, seed = Date.now() % 100_000] = args.filter((arg) => !arg.startsWith('--')).map(Number);
const say = (line: string) => process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
const report = await runSoak({ jobs, seed, kind, say });
const ratio = report.lastTenthMb / report.secondTenthMb;
say(JSON.stringify({ ...report, wrong: report.wrong.slice(0, 10), notWell: report.notWell.slice(0, 10), ratio: Number(ratio.toFixed(3)) }, null, 2));
const well = kind !== 'trouble' ? report.engineRestarts === 0 && report.notWell.length === 0 : ratio <= 1.05;
process.exitCode = well && report.stuck === 0 && report.zombies === 0 && report.wrong.length === 0 ? 0 : 1;
