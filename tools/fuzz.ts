/**
 * Sends generated requests to a running service and holds every answer against openapi.yaml, event streams
 * included: `node --import tsx tools/fuzz.ts [--redis] [--pocket] [--seed N] [requests, default 10000]`.
 * Jobs and dead letters are there before, so that ids are found as well as not found. Engines are the test
 * engine, whose jobs take milliseconds; `--pocket`: the pocket models. `--redis`: the queue is a Redis, and
 * half of the callbacks are refused.
 *
 * Needs Python 3; the checker is installed into a temporary folder, its version pinned (SCHEMATHESIS names one
 * that is installed). 503 is an answer, with its reason; every other 5xx is a failure.
 */
import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Redis } from 'ioredis';
import { projectRoot } from '../src/lib/project.js';
import { startCallbackReceiver } from '../test/helpers/callback-receiver.js';
import { sdxlPayload, submit, waitForJob, wanPayload } from '../test/helpers/jobs.js';
import { startRedis } from '../test/helpers/redis.js';
import { startService, type ServiceProcess } from '../test/helpers/service-process.js';

const checker = 'schemathesis==4.32.5';
const checks = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'unsupported_method',
  'ignored_auth',
  'missing_required_header',
];
/** Of each operation, in each round: enough for the generator to get past the plain cases. */
const examplesPerRound = 100;

const args = process.argv.slice(2);
const has = (flag: string) => args.includes(flag);
const seed = has('--seed') ? Number(args[args.indexOf('--seed') + 1]) : 1;
const wanted = Number(args.findLast((arg, at) => /^\d+$/.test(arg) && args[at - 1] !== '--seed') ?? 10_000);

const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-fuzz-'));
const ends: Array<() => unknown> = [() => rm(folder, { recursive: true, force: true })];
try {
  const schemathesis = process.env['SCHEMATHESIS'] ?? (await install());
  const service = await start();
  await writeFile(path.join(folder, 'schemathesis.toml'), await settings(service));
  const pid = service.pid();
  let failed = false;
  for (let round = 0; (await answered(service)).total < wanted; round += 1)
    failed = (await check(schemathesis, service, seed + round)) !== 0 || failed;
  const { rows, total } = await answered(service);
  console.log([...rows, `${total} requests`].join('\n'));
  const isUp = service.pid() === pid && (await service.get('/health')).ok;
  if (!isUp) console.log('the service ended');
  process.exitCode = failed || !isUp ? 1 : 0;
} finally {
  for (const end of ends.reverse()) await end();
}

async function run(command: string, args: string[]): Promise<number> {
  const child = spawn(command, args, { stdio: 'inherit', cwd: folder });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

async function install(): Promise<string> {
  const bin = path.join(folder, 'venv/bin');
  if (
    (await run('python3', ['-m', 'venv', 'venv'])) !== 0 ||
    (await run(path.join(bin, 'python'), ['-m', 'pip', 'install', '-q', checker])) !== 0
  )
    throw new Error(`${checker} could not be installed`);
  return path.join(bin, 'schemathesis');
}

/** The service, and what stands around it. */
async function start(): Promise<ServiceProcess> {
  const models = path.join(folder, 'models');
  for (const engine of ['sdxl', 'wan', 'qwen']) await mkdir(path.join(models, engine), { recursive: true });
  const env: Record<string, string> = { MAX_WAITING_JOBS: '200', MAX_ATTEMPTS: '1', LOG_LEVEL: 'error' };
  if (has('--redis')) {
    const redis = await startRedis();
    ends.push(() => redis.stop());
    const receiver = await startCallbackReceiver({
      respond: (_body, index) => (index % 2 === 0 ? 200 : 410),
    });
    ends.push(() => receiver.close());
    Object.assign(env, { REDIS_URL: redis.url, CALLBACK_URL: receiver.url, STORAGE: 'folder' });
    const producer = new Redis(redis.url);
    await producer.lpush('sdxl_queue', 'no JSON', '{"id":7}', '\u0000', Buffer.from([255]));
    producer.disconnect();
  }
  const service = await startService(
    has('--pocket')
      ? { env }
      : { env: { ...env, MODELS_DIR: models }, program: ['test/soak/server', 'trouble'] },
  );
  ends.push(() => service.cleanUp());
  return service;
}

/** What there is to be found: jobs that ended well and badly, a file, and dead letters. */
async function settings(service: ServiceProcess): Promise<string> {
  const small = { width: 64, height: 64, seed: 1 };
  const jobs = await Promise.all(
    [
      ...['a red circle', 'crashes always', 'a blue square'].map((prompt) =>
        sdxlPayload({ prompt, config: small }),
      ),
      wanPayload({ type: 'image_fast', config: { size: '64*64', sample_steps: 2 } }),
      sdxlPayload({ metadata: { reference_image_url: 'https://127.0.0.1/a.png' } }),
    ].map(async (job) => submit(service, job)),
  );
  await Promise.all(jobs.map((id) => waitForJob(service, id, undefined, 300_000)));
  // The checker writes no slash into a part of a path, which the names of real files have.
  const [bucket, file] = ['sdxl_image_fast', 'plain.png'];
  await writeFile(path.join(service.dataDir, 'assets', bucket, file), 'a picture');
  const idsIn = async (route: string, list: string) => {
    const answer = (await service.getJson(route)) as Record<string, Array<{ id: string }>>;
    return (answer[list] ?? []).map(({ id }) => id);
  };
  const words: Record<string, string[]> = {
    jobs,
    letters: await idsIn('/dead-letters', 'dead_letters'),
    callbacks: await idsIn('/callbacks', 'dead'),
    bucket: [bucket],
    file: [file],
    workers: ['sdxl', 'wan', 'qwen'],
  };
  const often = (pattern: string, probability: number, from: Record<string, string>) => {
    const parameters = Object.entries(from).map(
      ([name, dictionary]) =>
        `"${name}" = { dictionary = "${dictionary}", probability = ${String(probability)} }`,
    );
    return `[[operations]]\ninclude-path-regex = "${pattern}"\nparameters = { ${parameters.join(', ')} }`;
  };
  return [
    '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 503]',
    ...Object.entries(words).map(
      ([name, values]) =>
        `[dictionaries.${name}]\nvalues = ${JSON.stringify(values.length === 0 ? ['none'] : values)}`,
    ),
    often('^/jobs/', 0.7, { 'path.id': 'jobs' }),
    often('^/dead-letters/', 0.7, { 'path.id': 'letters' }),
    often('^/callbacks/', 0.7, { 'body.id': 'callbacks' }),
    often('^/assets/', 0.9, { 'path.bucket': 'bucket', 'path.path': 'file' }),
    // Each one found is a process that starts again.
    often('^/worker/.*[{]', 0.1, { 'path.worker_id': 'workers' }),
    '',
  ].join('\n');
}

function check(schemathesis: string, service: ServiceProcess, roundSeed: number): Promise<number> {
  return run(schemathesis, [
    'run',
    path.join(projectRoot(), 'openapi.yaml'),
    ...['--url', service.baseUrl, '--header', `Authorization: Bearer ${service.apiKey}`],
    // A stream without an end; test/routes/operating.test.ts reads it.
    ...['--exclude-path', '/events'],
    ...['--phases', 'examples,coverage,fuzzing,stateful', '--checks', checks.join()],
    ...['--max-examples', String(examplesPerRound), '--seed', String(roundSeed)],
    ...['--no-shrink', '--continue-on-failure', '--request-timeout', '60', '--warnings', 'off'],
  ]);
}

/** Requests so far, from the service's own measurements: `createJob  202 × 40, 400 × 360`. */
async function answered(service: ServiceProcess): Promise<{ rows: string[]; total: number }> {
  const text = await (await service.get('/metrics')).text();
  const counts = new Map<string, Map<string, number>>();
  let total = 0;
  for (const [, labels = '', count = ''] of text.matchAll(
    /^ourvidz_http_request_seconds_count\{(.*)\} (\d+)$/gm,
  )) {
    const [, operation = ''] = /operation="(\w+)"/.exec(labels) ?? [];
    const [, status = ''] = /status="(\d+)"/.exec(labels) ?? [];
    const statuses = counts.get(operation) ?? new Map<string, number>();
    counts.set(operation, statuses.set(status, (statuses.get(status) ?? 0) + Number(count)));
    total += Number(count);
  }
  const rows = [...counts].sort().map(([operation, statuses]) => {
    const told = [...statuses].sort().map(([status, count]) => `${status} × ${String(count)}`);
    return `${operation.padEnd(22)} ${told.join(', ')}`;
  });
  return { total, rows };
}
