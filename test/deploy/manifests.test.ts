import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { parse, parseAllDocuments } from 'yaml';
import { readConfig, variables } from '../../src/config.js';
import { projectRoot } from '../../src/lib/project.js';
import { readServiceKey } from '../../src/lib/supabase.js';
import { queueNames } from '../../src/services/catalogue.js';
import { requireCommand } from '../helpers/requirements.js';

const at = (...parts: string[]) => path.join(projectRoot(), ...parts);

interface Probe {
  httpGet: { path: string; port: string };
  periodSeconds: number;
  failureThreshold?: number;
}
interface Container {
  name: string;
  ports?: Array<{ name: string; containerPort: number }>;
  env?: Array<{ name: string; value: string }>;
  startupProbe: Probe;
  readinessProbe: Probe;
  livenessProbe: Probe;
  volumeMounts: Array<{ name: string; mountPath: string }>;
  securityContext: object;
  command?: string[];
}
interface Manifest {
  kind: string;
  metadata: { name: string };
  /** Not of a Namespace. */
  spec: {
    scaleTargetRef: { name: string };
    advanced: { scalingModifiers: { formula: string } };
    triggers: Array<{ name: string; metadata: { listName: string; address: string } }>;
    ports: Array<{ targetPort?: string; port: number }>;
    template: {
      spec: {
        terminationGracePeriodSeconds: number;
        securityContext: object;
        containers: Container[];
        volumes: Array<{ name: string; persistentVolumeClaim?: { claimName: string } }>;
      };
    };
  };
}

const manifests = readdirSync(at('deploy/kubernetes'))
  .filter((file) => file !== 'kustomization.yaml')
  .flatMap((file) =>
    parseAllDocuments(readFileSync(at('deploy/kubernetes', file), 'utf8')).map(
      (document) => document.toJS() as Manifest,
    ),
  );
const find = (kind: string, name: string) => {
  const found = manifests.find((each) => each.kind === kind && each.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
};

t.test('Kubernetes: probes, settings and names are those of the service', async (t) => {
  const pod = find('Deployment', 'ourvidz-worker').spec.template.spec;
  const [worker] = pod.containers as [Container];
  const { paths } = parse(readFileSync(at('openapi.yaml'), 'utf8')) as { paths: Record<string, unknown> };
  for (const probe of [worker.startupProbe, worker.readinessProbe, worker.livenessProbe]) {
    t.ok(probe.httpGet.path in paths, `${probe.httpGet.path} is a route`);
    t.equal(probe.httpGet.port, worker.ports?.[0]?.name);
  }
  t.equal(worker.livenessProbe.httpGet.path, '/health', 'a worker that only cannot take jobs is not killed');
  t.equal(worker.readinessProbe.httpGet.path, '/ready');
  const { periodSeconds, failureThreshold = 3 } = worker.startupProbe;
  t.ok(periodSeconds * failureThreshold >= 600, 'a first start may take ten minutes');
  const env = Object.fromEntries((worker.env ?? []).map(({ name, value }) => [name, value]));
  for (const name of Object.keys(env)) t.ok(variables.includes(name), name);
  const { shutdownGraceSeconds } = readConfig({ ...env, DATA_DIR: t.testdir() });
  t.equal(pod.terminationGracePeriodSeconds, shutdownGraceSeconds + 15, 'the grace, and what ends after it');
  t.equal(find('Service', 'ourvidz-worker').spec.ports[0]?.targetPort, worker.ports?.[0]?.name);

  for (const { kind, metadata, spec } of manifests) {
    if (spec?.template === undefined) continue;
    const { template } = spec;
    const volumes = [...(template.spec.volumes ?? []), { name: 'data' }];
    for (const container of template.spec.containers) {
      for (const { name } of container.volumeMounts)
        t.ok(
          volumes.some((volume) => volume.name === name),
          `${kind} ${metadata.name}: volume ${name}`,
        );
      t.match(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
    }
    t.match(template.spec.securityContext, {
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    for (const { persistentVolumeClaim } of template.spec.volumes ?? [])
      if (persistentVolumeClaim !== undefined)
        t.ok(find('PersistentVolumeClaim', persistentVolumeClaim.claimName));
  }
});

t.test('Kubernetes: scaling counts what waits, is put off and runs, of both queues', async (t) => {
  const { scaleTargetRef, triggers, advanced } = find('ScaledObject', 'ourvidz-worker').spec;
  t.ok(find('Deployment', scaleTargetRef.name));
  t.same(
    triggers.map(({ metadata }) => metadata.listName).sort(),
    queueNames.flatMap((queue) => [queue, `ourvidz:delayed:${queue}`, `ourvidz:leases:${queue}`]).sort(),
  );
  const keys = readFileSync(at('src/services/queue/redis/scripts.ts'), 'utf8');
  for (const key of ['delayed:', 'leases:']) t.ok(keys.includes(`${key}\${queue}`), `the queue has ${key}`);
  const used = new Set(advanced.scalingModifiers.formula.match(/[a-z_]+/g));
  t.same([...used].sort(), triggers.map(({ name }) => name).sort(), 'the formula has each of them');
  for (const { metadata } of triggers) {
    const [host = '', port] = metadata.address.split(':');
    t.equal(find('Service', host.split('.')[0] ?? '').spec.ports[0]?.port, Number(port), metadata.address);
  }
});

t.test('systemd takes the units', { skip: requireCommand('systemd-analyze') }, async (t) => {
  const folder = t.testdir();
  for (const name of ['ourvidz.service', 'ourvidz@.service']) {
    const unit = readFileSync(at('deploy/systemd', name), 'utf8');
    const started = /^ExecStart=\/opt\/ourvidz\/(\S+) (\S+)$/m.exec(unit);
    t.ok(existsSync(at(started?.[1] ?? 'absent')), `${name} starts ${started?.[1]}`);
    t.equal(started?.[2], 'dist/src/server.js');
    for (const [, list = ''] of unit.matchAll(/^Environment=(.*)$/gm))
      for (const pair of list.split(' ')) {
        const variable = pair.split('=')[0] ?? '';
        t.ok([...variables, 'NODE_ENV', 'CUDA_VISIBLE_DEVICES'].includes(variable), `${name}: ${variable}`);
      }
    const grace = Number(/SHUTDOWN_GRACE_SECONDS=(\d+)/.exec(unit)?.[1]);
    t.match(unit, `TimeoutStopSec=${grace + 15}`, 'the grace, and what ends after it');
    const file = path.join(folder, name.replace('@', '@0'));
    // where this checkout is, as a user that is here
    writeFileSync(file, unit.replaceAll('/opt/ourvidz', projectRoot()).replace('User=ourvidz', 'User=root'));
    const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], {
      encoding: 'utf8',
    });
    t.equal(status, 0, `${name}\n${stdout}${stderr}`);
    t.equal(stderr, '', 'without a warning');
  }
});

t.test('the template of RunPod and the made keys have settings that exist', async (t) => {
  const template = JSON.parse(readFileSync(at('deploy/runpod/template.json'), 'utf8')) as {
    env: Record<string, string>;
    ports: string[];
  };
  t.same(template.ports, ['7860/http']);
  for (const name of Object.keys(template.env)) t.ok(variables.includes(name), name);

  const make = (...args: string[]) =>
    spawnSync(process.execPath, [at('deploy/make-keys.mjs'), ...args], { encoding: 'utf8' }).stdout;
  const compose = readFileSync(at('compose.yaml'), 'utf8');
  const plain = make();
  t.notMatch(plain, /SUPABASE/);
  const made = Object.fromEntries(
    make('--storage', 'http://files.example:8000')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
  for (const name of Object.keys(made)) t.ok(compose.includes(`\${${name}:`), `compose.yaml reads ${name}`);
  t.equal(made['SUPABASE_URL'], 'http://files.example:8000');
  t.match(readServiceKey(made['SUPABASE_SERVICE_KEY'] ?? ''), { kind: 'jwt', role: 'service_role' });
  const settings = Object.fromEntries(Object.entries(made).filter(([name]) => variables.includes(name)));
  t.ok(
    readConfig({ ...settings, REDIS_URL: 'redis://redis:6379', DATA_DIR: t.testdir() }),
    'the service takes them',
  );
  t.not(make(), plain, 'fresh ones each time');
});
