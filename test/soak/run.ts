/**
 * `npm run test:soak [-- [--healthy | --real | --enhance] [jobs [seed]]]`: 5,000 jobs in trouble, or 1,000
 * healthy ones, with the test engine or with real ones, unless said otherwise. Fails when memory grew, a job
 * is stuck or ended otherwise than it had to, a process was left; and, healthy or real, when an engine was
 * ended or called anything but healthy. `--enhance`: 2,000 requests of mixed kinds to `/enhance`. Fails when
 * one ends otherwise than it must, a sequence stays busy, or the server or the engine holds more than 1.1
 * times what it held after warming up. `--hostile [minutes [seed]]`: an hour of clients and producers that mean
 * harm, beside 200 real jobs. Fails when one of these takes more than three times as long as in peace, memory
 * grew, or the slowest hundredth of the answers of `/health` takes more than 50 ms.
 */
import { runEnhanceSoak } from './enhance-soak.js';
import { runHostileHour } from './hostile-hour.js';
import { runSoak, type SoakKind } from './soak.js';

const args = process.argv.slice(2);
const numbers = args.filter((arg) => !arg.startsWith('--')).map(Number);
const say = (line: string) => process.stdout.write(`${line}\n`);
const rounded = (value: number) => Number(value.toFixed(3));
const isWell = await (args.includes('--enhance')
  ? enhance(...numbers)
  : args.includes('--hostile')
    ? hostile(...numbers)
    : soak(
        args.includes('--healthy') ? 'healthy' : args.includes('--real') ? 'real' : 'trouble',
        ...numbers,
      ));
process.exitCode = isWell ? 0 : 1;

async function soak(
  kind: SoakKind,
  jobs = kind === 'trouble' ? 5000 : 1000,
  seed = Date.now() % 100_000,
): Promise<boolean> {
  say(`seed ${seed}`);
  const report = await runSoak({ jobs, seed, kind, say });
  const ratio = report.lastTenthMb / report.secondTenthMb;
  say(
    JSON.stringify(
      {
        ...report,
        wrong: report.wrong.slice(0, 10),
        notWell: report.notWell.slice(0, 10),
        ratio: rounded(ratio),
      },
      null,
      2,
    ),
  );
  const well =
    kind !== 'trouble' ? report.engineRestarts === 0 && report.notWell.length === 0 : ratio <= 1.05;
  return well && report.stuck === 0 && report.zombies === 0 && report.wrong.length === 0;
}

async function enhance(requests = 2000, seed = Date.now() % 100_000): Promise<boolean> {
  say(`seed ${seed}`);
  const report = await runEnhanceSoak({ requests, seed, say });
  const [server, engine] = [report.server, report.engine].map(
    ({ secondTenthMb, lastTenthMb }) => lastTenthMb / secondTenthMb,
  ) as [number, number];
  say(
    JSON.stringify(
      {
        ...report,
        wrong: report.wrong.slice(0, 10),
        serverRatio: rounded(server),
        engineRatio: rounded(engine),
      },
      null,
      2,
    ),
  );
  return (
    server <= 1.1 &&
    engine <= 1.1 &&
    report.busySequences === 0 &&
    report.engineRestarts === 0 &&
    report.wrong.length === 0
  );
}

async function hostile(minutes = 60, seed = Date.now() % 100_000): Promise<boolean> {
  say(`seed ${seed}`);
  const report = await runHostileHour({ seconds: minutes * 60, jobs: 200, streams: 2000, seed, say });
  const ratio = report.lastTenthMb / report.thirdTenthMb;
  say(JSON.stringify({ ...report, ratio: rounded(ratio) }, null, 2));
  return report.wrong.length === 0 && report.slowestRatio <= 3 && ratio <= 1.05 && report.healthP99Ms <= 50;
}
