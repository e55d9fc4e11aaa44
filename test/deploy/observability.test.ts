import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { projectRoot } from '../../src/lib/project.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

const at = (...parts: string[]) => path.join(projectRoot(), ...parts);
const alertsFile = at('deploy/prometheus/alerts.yml');

interface Rule {
  alert: string;
  expr: string;
  annotations: { summary: string; runbook: string };
}
const rules = (
  parse(readFileSync(alertsFile, 'utf8')) as { groups: Array<{ rules: Rule[] }> }
).groups.flatMap((group) => group.rules);

interface Panel {
  type: string;
  title: string;
  targets?: Array<{ expr: string }>;
}
const { panels } = JSON.parse(readFileSync(at('deploy/grafana/ourvidz.json'), 'utf8')) as { panels: Panel[] };
/** With what Grafana puts in place of its variables. */
const drawn = panels.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }) => ({
    title,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
  })),
);

const promtool = (...args: string[]) => spawnSync('promtool', args, { encoding: 'utf8' });

const promtoolMissing = requireCommand('promtool');
t.test('promtool takes all; each alert fires when it should', { skip: promtoolMissing }, async (t) => {
  for (const args of [
    ['check', 'config', at('deploy/prometheus/prometheus.yml')],
    ['test', 'rules', at('deploy/prometheus/alerts.test.yml')],
  ]) {
    const { status, stdout, stderr } = promtool(...args);
    t.equal(status, 0, `promtool ${args[0]} ${args[1]}\n${stdout}${stderr}`);
  }
  const tested = readFileSync(at('deploy/prometheus/alerts.test.yml'), 'utf8');
  for (const { alert } of rules)
    t.ok(tested.includes(`alertname="${alert}"`), `${alert} has been seen to fire`);

  const file = path.join(t.testdir(), 'dashboard.yml');
  const asRules = drawn.map(({ expr }, index) => ({ record: `panel:${index}`, expr }));
  writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: asRules }] }));
  const { status, stdout, stderr } = promtool('check', 'rules', file);
  t.equal(status, 0, `the dashboard's expressions\n${stdout}${stderr}`);
});

t.test('every alert leads to a section of the runbook that says what to do', async (t) => {
  const headings = readFileSync(at('docs/operations.md'), 'utf8').matchAll(/^#+ (.+)$/gm);
  const anchors = new Set([...headings].map(([, text = '']) => anchorOf(text)));
  for (const { alert, annotations } of rules) {
    const [document, anchor = ''] = annotations.runbook.split('#');
    t.equal(document, 'docs/operations.md');
    t.ok(anchors.has(anchor), `${alert}: ${annotations.runbook}`);
  }
});

/** As GitHub names a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

t.test('alerts and dashboard ask for what a running service with a card tells', async (t) => {
  const tools = t.testdir({});
  writeFileSync(
    path.join(tools, 'nvidia-smi'),
    "#!/bin/sh\ncase $1 in --query-gpu*) echo 'GPU-1, NVIDIA H100, 81559, 12000, 40, 61, 580.1, 402.5';; esac\n",
    { mode: 0o755 },
  );
  const service = await startService({ env: { PATH: `${tools}:${process.env['PATH']}` } });
  t.teardown(() => service.cleanUp());
  const id = '0b9f2f0e-0a4e-4a55-9d5b-6f1f0c9f7a77';
  const job = { id, type: 'sdxl_image_fast', prompt: 'a red circle', user_id: id, config: { num_images: 1 } };
  t.equal((await service.send('POST', '/jobs', job)).status, 202);
  await waitFor(
    async () => ((await service.getJson(`/jobs/${id}`)) as { status: string }).status === 'completed',
    { what: () => service.logs().slice(-20).join('\n'), timeoutMs: 60_000 },
  );
  const text = await (await service.get('/metrics')).text();
  const known = new Map<string, { labels: Set<string>; happened: boolean }>();
  for (const [, name = '', kind] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    for (const suffix of kind === 'histogram' ? ['_bucket', '_sum', '_count'] : [''])
      known.set(name + suffix, { labels: new Set(['instance', 'job']), happened: false });
  for (const [, name = '', labels = ''] of text.matchAll(/^([a-z]\w*)(?:\{(.*)\})? \S+$/gm)) {
    const metric = known.get(name);
    if (metric === undefined) continue;
    metric.happened = true;
    for (const [, label = ''] of labels.matchAll(/(\w+)="/g)) metric.labels.add(label);
  }
  t.match(text, /^ourvidz_gpu_power_watts\{gpu="NVIDIA H100"\} 402.5$/m);
  t.match(text, /^ourvidz_queue_wait_seconds_count\{queue="sdxl_queue",type="sdxl_image_fast"\} 1$/m);

  const asked = [...drawn, ...rules.map(({ alert, expr }) => ({ title: alert, expr }))];
  for (const { title, expr } of asked) {
    const selectors = [...expr.matchAll(/\b(ourvidz_\w+|up|ALERTS)\b(?:\{([^}]*)\})?/g)];
    t.ok(selectors.length > 0, `${title} asks for something`);
    const metrics = selectors
      .filter(([, name]) => name !== 'up')
      .map(([, name = '', matchers = '']) => {
        const metric = known.get(name);
        t.ok(metric, `${title}: ${name}`);
        const named = [...matchers.matchAll(/(\w+)\s*=/g)].map(([, label = '']) => label);
        if (metric?.happened === true)
          for (const label of named) t.ok(metric.labels.has(label), `${title}: ${name}{${label}}`);
        return metric;
      });
    // nobody knows the labels of what has not happened here
    if (!metrics.every((metric) => metric?.happened)) continue;
    for (const [, grouped = ''] of expr.matchAll(/\b(?:by|on|ignoring) \(([^)]*)\)/g))
      for (const label of grouped.split(',').map((each) => each.trim()))
        t.ok(
          label === 'instance' || metrics.some((metric) => metric?.labels.has(label)),
          `${title}: by ${label}`,
        );
  }

  const table = readFileSync(at('docs/operations.md'), 'utf8');
  const own = [...text.matchAll(/^# TYPE (ourvidz_(?!process_|nodejs_)\w+) /gm)].map(([, name = '']) => name);
  const documented = [...table.matchAll(/`(ourvidz_\w+)`/g)].map(([, name = '']) => name);
  for (const name of own) t.ok(documented.includes(name), `docs/operations.md has ${name}`);
  for (const name of documented.filter((each) => !/_(process|nodejs)_/.test(each)))
    t.ok(own.includes(name), `${name} of docs/operations.md exists`);
});
