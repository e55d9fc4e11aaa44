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
import { listOperations, readDocument as readContract } from '../../src/contract/document.js';
import { errors } from '../../src/lib/errors.js';
import { projectRoot } from '../../src/lib/project.js';
import { build, testApiKey } from '../helpers/build.js';
import { commandsOf, documents, notRun, readDocument } from '../helpers/documents.js';

const root = projectRoot();
/** Folders of the repository: a path that begins with one of them is meant to exist. */
const folders = 'src|client|examples|test|tools|bench|deploy|docs|prompts|models/pocket|\\.ci';

t.test('paths that the documents name exist', async (t) => {
  for (const document of documents) {
    const text = readDocument(document);
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
    for (const [, name = ''] of readDocument(document).matchAll(/npm run ([\w:]+)/g))
      t.ok(name in scripts, `${document}: npm run ${name}`);
});

t.test('every command that the documents name is run, or named with the reason', (t) => {
  const used = new Set<RegExp>();
  for (const document of documents)
    for (const command of new Set(commandsOf(readDocument(document)))) {
      const known = notRun.find(([pattern]) => pattern.test(command));
      if (known !== undefined) used.add(known[0]);
      else t.match(command, /^(?:npx )?ourvidz\b|^curl .*:7860\/|^node deploy\/make-keys/, document);
    }
  for (const [pattern] of notRun) t.ok(used.has(pattern), `${String(pattern)} is still needed`);
  t.end();
});

t.test('README leads to every page, and docs/api.md to every operation', (t) => {
  const readme = readDocument('README.md');
  for (const document of documents.filter((name) => /^docs\/[\w-]+\.md$/.test(name)))
    t.ok(readme.includes(`(${document}`), document);
  const map = readDocument('docs/api.md');
  for (const { method, path: route } of listOperations(readContract()))
    t.ok(map.includes(`\`${method.toUpperCase()} ${route}\``), `${method} ${route}`);
  for (const { code } of Object.values(errors)) t.ok(map.includes(`\`${code}\``), code);
  t.end();
});

t.test('files that commands of the documents start exist', async (t) => {
  for (const document of documents)
    for (const command of commandsOf(readDocument(document))) {
      const [, file] =
        /^(?:node|python) (?:-\S+ (?:tsx )?)*([\w./-]+\.(?:ts|mjs|py|js))\b/.exec(command) ?? [];
      if (file !== undefined && !file.startsWith('dist/'))
        t.ok(existsSync(path.join(root, file)), `${document}: ${file}`);
    }
});

/** The command line as src/cli/main.ts puts it together. */
function ownCommands(): Command {
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
  return program;
}

t.test('no help is wider than 80 columns', async (t) => {
  const all = (command: Command): Command[] => [command, ...command.commands.flatMap(all)];
  const commands = all(ownCommands());
  t.ok(commands.length > 30, `${commands.length} commands`);
  for (const command of commands) {
    let help = '';
    command.configureOutput({ writeOut: (text) => (help += text), getOutHelpWidth: () => 80 }).outputHelp();
    t.same(
      help.split('\n').filter((line) => line.length > 80),
      [],
      command.name(),
    );
  }
});

t.test('commands and options of ourvidz that the documents name exist', async (t) => {
  const program = ownCommands();
  let seen = 0;
  for (const document of documents)
    for (const line of commandsOf(readDocument(document))) {
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
  const operations = listOperations(readContract());
  const elsewhere =
    /^\/(?:storage\/v1|sys|srv|functions|dev|proc|etc|tmp|usr|run|app|workspace|data|models|opt)\b/;
  for (const document of documents) {
    const text = readDocument(document).replaceAll(/```.*?```/gs, '');
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
    [...readDocument(document).matchAll(/\bourvidz_(?!api_key|supabase_key|upstash_token)\w+/g)].map(
      ([name]) => name,
    ),
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
    for (const [, code = ''] of readDocument(document).matchAll(/`([^`\n]+)`/g))
      for (const [name] of code.matchAll(/\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b/g))
        t.ok(own.includes(name) || foreignVariables.has(name), `${document}: ${name}`);
});

t.test('exit codes that the documents and the command line name are those there are', async (t) => {
  t.same(Object.keys(exitCodeMeanings).sort(), Object.keys(exitCodes).sort());
  for (const document of documents)
    for (const [said, code] of readDocument(document).matchAll(/exit(?:s with| code)s? (\d+)/g))
      t.ok(
        Object.values(exitCodes).some((known) => String(known) === code),
        `${document}: ${said}`,
      );
});
