import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { parse } from 'yaml';
import { findFreePort } from '../../src/lib/processes.js';
import { variables } from '../../src/config.js';
import { projectRoot } from '../../src/lib/project.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { waitFor } from '../helpers/wait-for.js';
import { readDockerfile } from './dockerfile.js';

const root = projectRoot();
const at = (...parts: string[]) => path.join(root, ...parts);
const { stages, stage } = readDockerfile(readFileSync(at('Dockerfile'), 'utf8'));
const apiKey = 'key-of-the-deployment-test';

/** A process in the foreground, its output, and its end; killed with the test. */
function start(
  t: Test,
  command: string,
  args: string[],
  { cwd, env }: { cwd: string; env: Record<string, string | undefined> },
) {
  const child = spawn(command, args, {
    cwd,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => output.push(chunk.toString()));
  const ended = once(child, 'exit').then(([code]) => code as number | null);
  t.teardown(() => {
    child.kill('SIGKILL');
  });
  return { child, ended, output: () => output.join('') };
}

async function healthy(port: number, output: () => string): Promise<void> {
  await waitFor(async () => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => undefined))?.ok, {
    what: () => `/health on ${port}\n${output()}`,
    timeoutMs: 60_000,
  });
}

t.test(
  'Dockerfile: what it copies exists and is let through; both targets are not root, checked, and start what is there',
  async (t) => {
    const ignore = readFileSync(at('.dockerignore'), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    t.equal(ignore[0], '*', 'nothing gets in unless it is named');
    for (const { name, instructions } of stages) {
      for (const { sources, from } of instructions
        .filter(({ keyword }) => keyword === 'COPY')
        .map(({ copy }) => copy)) {
        if (from !== undefined)
          t.ok(
            stages.some((other) => other.name === from),
            `${name}: stage ${from}`,
          );
        else
          for (const source of sources)
            t.ok(existsSync(at(source)) && ignore.includes(`!${source.split('/')[0]}`), `${name}: ${source}`);
      }
    }
    for (const target of ['cpu', 'cuda']) {
      const chain = target === 'cuda' ? ['cpu', 'cuda'] : ['cpu'];
      /** What stands last wins, except for what adds up. */
      const of = (keyword: string) => {
        const all = chain
          .flatMap((name) => stage(name).instructions)
          .filter((each) => each.keyword === keyword)
          .map(({ rest }) => rest);
        return (keyword === 'ENV' ? all.join(' ') : all.at(-1)) ?? '';
      };
      t.match(of('USER'), /^([1-9]\d*):\1$/, 'numbers, not root');
      t.equal(of('EXPOSE'), '7860');
      t.match(of('STOPSIGNAL'), 'SIGTERM');
      t.match(of('HEALTHCHECK'), /CMD \["node", "deploy\/healthcheck\.js"\]/);
      t.match(of('ENV'), /HOST=0\.0\.0\.0 PORT=7860 DATA_DIR=\/data/);
      for (const name of of('ENV').matchAll(/([A-Z_]+)=/g))
        t.ok(
          ['NODE_ENV', 'NVIDIA_VISIBLE_DEVICES', 'NVIDIA_DRIVER_CAPABILITIES', ...variables].includes(
            name[1] ?? '',
          ),
          `${name[1]} is known`,
        );
      t.same(JSON.parse(of('CMD')), ['node', 'dist/src/server.js']);
    }
    const commands = stage('build').instructions.map(({ rest }) => rest);
    const dropped = commands.find((rest) => rest.includes('npm prune')) ?? '';
    for (const name of ['@ffmpeg-installer', '@ffprobe-installer'])
      t.ok(dropped.includes(` ${name} `) && existsSync(at('node_modules', name)), `${name} stays out`);
    t.match(
      stage('cpu')
        .instructions.map(({ rest }) => rest)
        .join(' '),
      / ffmpeg tini /,
      "Debian's is there",
    );
    const sets = JSON.parse(readFileSync(at('models/cuda.json'), 'utf8')) as {
      sets: Array<{ name: string }>;
    };
    const chosen = stage('build-cuda')
      .instructions.find(({ keyword }) => keyword === 'ARG')
      ?.rest.split('=')[1];
    t.ok(
      sets.sets.some(({ name }) => name === chosen),
      `setup cuda knows the set ${chosen}`,
    );
  },
);

t.test(
  'the files of the image are enough: the service runs from them alone, and its health check tells',
  { skip: redisOrSkip(t) ? false : 'no Redis' },
  async (t) => {
    const app = t.testdir({});
    for (const { copy } of stage('service').instructions.filter(({ keyword }) => keyword === 'COPY')) {
      for (const source of copy.sources) {
        const from = copy.from === undefined ? at(source) : source.replace(/^\/app/, root);
        const target = path
          .join(app, copy.target.endsWith('/') ? path.join(copy.target, path.basename(source)) : copy.target)
          .replace('/app', '');
        mkdirSync(path.dirname(target), { recursive: true });
        if (source === 'models') symlinkSync(from, target);
        else cpSync(from, target, { recursive: true });
      }
    }
    symlinkSync(at('node_modules'), path.join(app, 'node_modules'));
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    const port = await findFreePort();
    const env = {
      HOST: '127.0.0.1',
      PORT: String(port),
      DATA_DIR: path.join(app, 'data'),
      REDIS_URL: redis.url,
      WAN_WORKER_API_KEY: apiKey,
      ORT_DEVICE: 'cpu',
      ALLOW_POCKET_MODELS: 'on',
      NODE_ENV: 'production',
    };
    const check = () =>
      spawnSync(process.execPath, ['deploy/healthcheck.js'], {
        cwd: app,
        env: { PATH: process.env['PATH'], PORT: String(port) },
        encoding: 'utf8',
      });
    t.match(check(), { status: 1, stdout: /does not answer/ }, 'before it runs');
    const service = start(t, process.execPath, ['dist/src/server.js'], { cwd: app, env });
    await healthy(port, service.output);
    t.match(check(), { status: 0, stdout: /healthy/ });
    const ready = () =>
      fetch(`http://127.0.0.1:${port}/ready`).then(
        (answer) => answer.ok,
        () => false,
      );
    await waitFor(ready, { what: () => `readiness\n${service.output()}`, timeoutMs: 60_000 });
    service.child.kill('SIGTERM');
    t.equal(await service.ended, 0);
  },
);

t.test('compose.yaml: two workers and a Redis that loses nothing; every name in it exists', async (t) => {
  interface ComposeService {
    build?: { target: string };
    depends_on?: Record<string, unknown>;
    environment?: Record<string, string>;
    volumes?: string[];
    deploy?: { replicas?: number; resources?: unknown };
    command?: string[];
  }
  const { services, volumes } = parse(readFileSync(at('compose.yaml'), 'utf8'), { merge: true }) as {
    services: Record<string, ComposeService>;
    volumes: Record<string, unknown>;
  };
  t.equal(services['worker']?.deploy?.replicas, 2);
  const cards = ['worker-cuda-0', 'worker-cuda-1'].map((name) => services[name]?.deploy?.resources);
  t.match(
    cards,
    ['0', '1'].map((id) => ({ reservations: { devices: [{ driver: 'nvidia', device_ids: [id] }] } })),
    'two cards are two services',
  );
  t.match(services['redis']?.command?.join(' '), /appendonly yes.*noeviction/);
  for (const [name, service] of Object.entries(services)) {
    if (service.build !== undefined)
      t.ok(stage(service.build.target), `${name}: target ${service.build.target}`);
    for (const other of Object.keys(service.depends_on ?? {}))
      t.ok(other in services, `${name} depends on ${other}`);
    if (service.build !== undefined)
      for (const variable of Object.keys(service.environment ?? {}))
        t.ok(variables.includes(variable), `${name}: ${variable}`);
    if (service.build !== undefined) {
      const { instructions } = stage('cpu');
      const user = instructions.find(({ keyword }) => keyword === 'USER')?.rest ?? '';
      const made = instructions.find(({ rest }) => rest.includes('mkdir'))?.rest ?? '';
      t.equal(user, '1000:1000', `${name}: volumes are shared between images, so their user is one`);
      for (const volume of service.volumes ?? []) {
        const [, target = '', mode] = volume.replace(/\$\{[^}]*\}/, 'folder').split(':');
        if (mode !== 'ro' && /^\w/.test(volume))
          t.ok(
            made.includes(`mkdir -p ${target} `) && made.includes(`chown -R ${user} /data`),
            `${name}: ${target} belongs to ${user} before it is mounted`,
          );
      }
    }
    for (const volume of service.volumes ?? [])
      if (/^\w/.test(volume)) t.ok((volume.split(':')[0] ?? '') in volumes, `${name}: volume ${volume}`);
      else if (volume.startsWith('./'))
        t.ok(existsSync(at(volume.split(':')[0] ?? '')), `${name}: ${volume} is here`);
  }
});

t.test(
  'the start script of RunPod: clean by shellcheck',
  { skip: requireCommand('shellcheck') },
  async (t) => {
    const { status, stdout } = spawnSync(
      'shellcheck',
      [at('deploy/runpod-start.sh'), at('deploy/one-per-card.sh')],
      { encoding: 'utf8' },
    );
    t.equal(status, 0, stdout);
  },
);

t.test(
  'the start script of RunPod, run: data on the volume, doctor first, the service in its place',
  async (t) => {
    const volume = t.testdir({ models: {} });
    symlinkSync(at('models/pocket/sdxl'), path.join(volume, 'models/sdxl'));
    const port = await findFreePort();
    const pod = start(t, at('deploy/runpod-start.sh'), [], {
      cwd: volume,
      env: {
        RUNPOD_VOLUME: volume,
        RUNPOD_POD_ID: 'pod-1',
        HOST: '127.0.0.1',
        PORT: String(port),
        WAN_WORKER_API_KEY: apiKey,
        ORT_DEVICE: 'cpu',
      },
    });
    await healthy(port, pod.output);
    t.ok(existsSync(path.join(volume, 'ourvidz/pod-1/queue')), 'its data is on the volume');
    t.match(pod.output(), /SUPABASE_URL is not set/);
    t.match(pod.output(), /starting on 127\.0\.0\.1:\d+, data in .*pod-1, models in .*models/);
    const { job_types: types } = (await fetch(`http://127.0.0.1:${port}/capabilities`, {
      headers: { authorization: `Bearer ${apiKey}` },
    }).then((answer) => answer.json())) as { job_types: Record<string, { available: boolean }> };
    t.equal(types['sdxl_image_fast']?.available, true, 'its models are those of the volume');
    pod.child.kill('SIGTERM');
    t.equal(await pod.ended, 0, 'the signal reaches the service');
  },
);

t.test('one-per-card: a worker for each card of nvidia-smi, on one queue; one signal ends all', async (t) => {
  if (!redisOrSkip(t)) return;
  const redis = await startRedis();
  t.teardown(() => redis.stop());
  const folder = t.testdir({ bin: {}, data: {} });
  const list = path.join(folder, 'bin/nvidia-smi');
  writeFileSync(list, "#!/bin/sh\nprintf '%s\\n' GPU-aaaa-1 GPU-bbbb-2\n", { mode: 0o755 });
  const environment = {
    PATH: `${path.join(folder, 'bin')}:${process.env['PATH']}`,
    HOST: '127.0.0.1',
    DATA_DIR: path.join(folder, 'data'),
    WAN_WORKER_API_KEY: apiKey,
    ORT_DEVICE: 'cpu',
  };
  const alone = start(t, at('deploy/one-per-card.sh'), [], { cwd: folder, env: environment });
  t.equal(await alone.ended, 2);
  t.match(alone.output(), /set REDIS_URL/);

  const port = await findFreePort();
  const cards = start(t, at('deploy/one-per-card.sh'), [], {
    cwd: folder,
    env: { ...environment, REDIS_URL: redis.url, PORT: String(port) },
  });
  for (const each of [port, port + 1]) await healthy(each, cards.output);
  t.match(cards.output(), /card GPU-aaaa-1 on port \d+\n(.*\n)*.*card GPU-bbbb-2 on port/);
  for (const name of ['card-0', 'card-1']) t.ok(existsSync(path.join(folder, 'data', name)), name);
  cards.child.kill('SIGTERM');
  t.equal(await cards.ended, 0, cards.output().slice(-500));
});
