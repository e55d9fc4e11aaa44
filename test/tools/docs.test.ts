import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import t from 'tap';
import { registerGenerate } from '../../src/cli/commands/generate.js';
import { registerCallbacks, registerJobs } from '../../src/cli/commands/jobs.js';
import { registerModels } from '../../src/cli/commands/models.js';
import { registerDeadLetters, registerHolds } from '../../src/cli/commands/operators.js';
import { registerDoctor, registerEngines, registerServiceCommands } from '../../src/cli/commands/service.js';
import { registerKeys, registerSetup } from '../../src/cli/commands/setup.js';
import { exitCodeMeanings, exitCodes } from '../../src/cli/output.js';
import { listOperations, readDocument } from '../../src/contract/document.js';
import { projectRoot } from '../../src/lib/project.js';
import { build, testApiKey } from '../helpers/build.js';

const root = projectRoot();
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  'NOTICE.md',
  'examples/README.md',
  'docs',
  'docs/decisions',
].flatMap((place) =>
  place.endsWith('.md')
    ? [place]
    : readdirSync(path.join(root, place))
        .filter((name) => name.endsWith('.md'))
        .map((name) => `${place}/${name}`),
);
/** Folders of the repository: a path that begins with one of them is meant to exist. */
const folders = 'src|client|examples|test|tools|bench|deploy|docs|prompts|models/pocket|\\.ci';

t.test('paths that the documents name exist', async (t) => {
  for (const document of documents) {
    const text = readFileSync(path.join(root, document), 'utf8');
    const named = [...text.matchAll(new RegExp(`(?<![\\w./-])(?:${folders})/[\\w./-]*\\w`, 'g'))].map(
      ([found]) => found,
    );
    for (const name of new Set(named)) t.ok(existsSync(path.join(root, name)), `${document}: ${name}`);
    for (const [, link = ''] of text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g))
      t.ok(existsSync(path.join(root, path.dirname(document), link)), `${document}: link to ${link}`);
  }
});

t.test('npm scripts that the documents name exist', async (t) => {
  const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const document of documents)
    for (const [, name = ''] of readFileSync(path.join(root, document), 'utf8').matchAll(/npm run ([\w:]+)/g))
      t.ok(name in scripts, `${document}: npm run ${name}`);
});

/** Everything of a terminal in the documents: whole lines of blocks, and commands within the text. */
function commandsOf(text: string): string[] {
  const blocks = [...text.matchAll(/```(?:sh|bash)\n(.*?)```/gs)].flatMap(([, block = '']) =>
    block
      .replaceAll('\\\n', ' ')
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.startsWith('#')),
  );
  const inline = [...text.replaceAll(/```.*?```/gs, '').matchAll(/`([^`\n]+)`/g)].map(
    ([, code = '']) => code,
  );
  const programs =
    /^(?:\w+=\S+ )?(?:npm|npx|node|python|ourvidz|curl|docker|pgrep|kill|redis-cli|\.ci\/run)(?: |$)/;
  return [...blocks, ...inline.filter((code) => programs.test(code))]
    .flatMap((line) => line.replace(/\s+#.*$/, '').split(' && '))
    .map((command) => command.replace(/^\w+=\S+ /, '').trim());
}

/** What no test of a clone can run, and why; what is checked of it instead. */
const notRun: ReadonlyArray<[command: RegExp, why: string]> = [
  [/^npm (?:ci|install)$/, 'npm does it: .ci/run begins with it, in a fresh folder'],
  [/^npm (?:test|start)\b|^npm run [\w:]+/, 'the script exists (above); what it starts has tests of its own'],
  [/^\.ci\/run$/, 'it is what runs the tests'],
  [/^curl .*:7860\//, 'test/e2e/readme.test.ts runs them as printed'],
  [
    /^(?:npx )?ourvidz\b/,
    'command and options exist (above); those of the README run in test/e2e/readme.test.ts',
  ],
  [
    /^(?:node|python) (?:-\S+ (?:tsx )?)*[\w./-]+\.(?:ts|mjs|py|js)\b/,
    'the file exists (above); Python needs torch, and models of gigabytes',
  ],
  [/^(?:npx|node|redis-cli|kill -9)$/, 'a program, not a command'],
  [/^(?:pgrep|kill|node inspect) /, 'for a person at a debugger: of the operating system and of Node'],
  [/^docker compose /, 'there is no Docker where the tests run; test/deploy reads the files'],
  [/^(?:kubectl|kustomize) |^cd deploy\/kubernetes$/, 'there is no cluster; test/deploy reads the manifests'],
  [
    /^(?:apt-get|useradd|git clone|cd \/opt\S*|install|printf|cp|systemctl|tar)\b/,
    'they set up a machine of its own, as root; test/deploy reads the units',
  ],
  [/^source <\(npx ourvidz completion /, 'test/cli/person.test.ts loads it in bash, zsh and fish'],
  [/^redis-cli BGSAVE$/, "Redis's own"],
  [/^curl .*rest\.runpod\.io/, 'it needs an account of RunPod; test/deploy reads the template'],
];

t.test('every command that the documents name is run, checked, or named with the reason', async (t) => {
  const used = new Set<RegExp>();
  for (const document of documents)
    for (const command of new Set(commandsOf(readFileSync(path.join(root, document), 'utf8')))) {
      const known = notRun.find(([pattern]) => pattern.test(command));
      t.ok(known !== undefined, `${document}: ${command} is neither run nor named`);
      if (known !== undefined) used.add(known[0]);
    }
  for (const [pattern] of notRun) t.ok(used.has(pattern), `${String(pattern)} is still needed`);
});

t.test('files that commands of the documents start exist', async (t) => {
  for (const document of documents)
    for (const command of commandsOf(readFileSync(path.join(root, document), 'utf8'))) {
      const [, file] =
        /^(?:node|python) (?:-\S+ (?:tsx )?)*([\w./-]+\.(?:ts|mjs|py|js))\b/.exec(command) ?? [];
      if (file !== undefined && !file.startsWith('dist/'))
        t.ok(existsSync(path.join(root, file)), `${document}: ${file}`);
    }
});

t.test('commands and options of ourvidz that the documents name exist', async (t) => {
  const program = new Command('ourvidz')
    .option('--url <url>')
    .option('--key <key>')
    .option('--json')
    .option('--help')
    .option('--version');
  for (const register of [
    registerGenerate,
    registerJobs,
    registerServiceCommands,
    registerEngines,
    registerDoctor,
    registerModels,
    registerSetup,
    registerHolds,
    registerKeys,
    registerDeadLetters,
    registerCallbacks,
  ])
    register(program);
  let seen = 0;
  for (const document of documents)
    for (const line of commandsOf(readFileSync(path.join(root, document), 'utf8'))) {
      const [, rest] = /^(?:npx )?ourvidz(?: (.*))?$/.exec(line) ?? [];
      if (rest === undefined) continue;
      seen += 1;
      let command: Command = program;
      const allowed = new Set(program.options.map(({ long }) => long));
      for (const word of rest.split(' ')) {
        const inner = command.commands.find((one) => one.name() === word);
        if (inner !== undefined) command = inner;
        for (const { long } of command.options) allowed.add(long);
        if (word.startsWith('--')) t.ok(allowed.has(word), `${document}: ${line}: ${word}`);
      }
      t.ok(command !== program || rest.startsWith('--'), `${document}: ${line}`);
      const left = rest.split(' ')[command === program ? 0 : 1] ?? '';
      if (command.commands.length > 0 && /^[a-z-]+$/.test(left) && command !== program)
        t.ok(
          command.commands.some((one) => one.name() === left),
          `${document}: ${line}: ${left}`,
        );
    }
  t.ok(seen > 20, `${seen} lines`);
});

t.test('routes that the documents name are in the contract', async (t) => {
  const operations = listOperations(readDocument());
  const elsewhere =
    /^\/(?:storage\/v1|sys|srv|functions|dev|proc|etc|tmp|usr|run|app|workspace|data|models|opt)\b/;
  for (const document of documents) {
    const text = readFileSync(path.join(root, document), 'utf8').replaceAll(/```.*?```/gs, '');
    for (const [, method, address = ''] of text.matchAll(/`(?:(GET|HEAD|POST|DELETE) )?(\/[a-z][^`\s]*)`/g)) {
      if (elsewhere.test(address)) continue;
      const route = address.split('?')[0] ?? '';
      const fits = operations.filter(
        ({ pattern, path: declared }) => pattern.test(route) || declared.startsWith(`${route}/`),
      );
      t.ok(
        fits.some((one) => method === undefined || one.method.toUpperCase() === method || method === 'HEAD'),
        `${document}: ${method ?? ''} ${address}`,
      );
    }
  }
});

t.test('metrics that the documents name are there', async (t) => {
  const { inject } = await build(t);
  const { body } = await inject({ url: '/metrics', headers: { authorization: `Bearer ${testApiKey}` } });
  const named = documents.flatMap((document) =>
    [
      ...readFileSync(path.join(root, document), 'utf8').matchAll(
        /\bourvidz_(?!api_key|supabase_key|upstash_token)\w+/g,
      ),
    ].map(([name]) => name),
  );
  t.ok(named.length > 5);
  for (const name of new Set(named))
    t.match(
      body,
      new RegExp(
        `^# HELP ${name.replace(/_(?:bucket|sum|count)$/, '(?:_\\w+)?').replace(/_$/, '_\\w+')} `,
        'm',
      ),
      name,
    );
});

/** Of others: drivers, containers, other programs. */
const foreignVariables: ReadonlySet<string> = new Set(['CUDA_VISIBLE_DEVICES', 'NVIDIA_VISIBLE_DEVICES']);

t.test('variables and constants that the documents name are read somewhere', async (t) => {
  const places = ['src', 'client', 'test', 'tools', 'bench', 'deploy', 'examples', 'prompts', '.ci'];
  const files = places
    .flatMap((place) => readdirSync(path.join(root, place), { recursive: true, withFileTypes: true }))
    .filter((file) => file.isFile() && /\.(?:ts|mjs|js|lua|py|sh|html)$|^run$/.test(file.name))
    .map((file) => path.join(file.parentPath, file.name));
  const beside = ['.env.example', 'openapi.yaml', 'Dockerfile', 'compose.yaml', 'package.json']
    .map((name) => path.join(root, name))
    .filter((file) => existsSync(file));
  const own = [...files, ...beside].map((file) => readFileSync(file, 'utf8')).join('\n');
  for (const document of documents)
    for (const [, code = ''] of readFileSync(path.join(root, document), 'utf8').matchAll(/`([^`\n]+)`/g))
      for (const [name] of code.matchAll(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g))
        t.ok(own.includes(name) || foreignVariables.has(name), `${document}: ${name}`);
});

t.test('exit codes that the documents and the command line name are those there are', async (t) => {
  t.same(Object.keys(exitCodeMeanings).sort(), Object.keys(exitCodes).sort());
  for (const document of documents)
    for (const [said, code] of readFileSync(path.join(root, document), 'utf8').matchAll(
      /exit(?:s with| code)s? (\d+)/g,
    ))
      t.ok(
        Object.values(exitCodes).some((known) => String(known) === code),
        `${document}: ${said}`,
      );
});
