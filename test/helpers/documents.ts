/** The documents of the repository, and the commands in them. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../src/lib/project.js';

const root = projectRoot();
export const readDocument = (name: string) => readFileSync(path.join(root, name), 'utf8');
export const documents = [
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

const programs =
  /^(?:\w+=\S+ )?(?:npm|npx|node|python|ourvidz|curl|docker|kubectl|systemctl|journalctl|pgrep|kill|redis-cli|openssl|apt-get|deploy\/[\w-]+\.sh|\.ci\/run)(?: |$)/;

/** Lines of a terminal as they are written: those of blocks, and commands within the text. */
export function linesOf(text: string): string[] {
  const blocks = [...text.matchAll(/```(?:sh|bash)\n(.*?)```/gs)].flatMap(([, block = '']) =>
    block
      .replaceAll('\\\n', ' ')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#')),
  );
  const inline = [...text.replaceAll(/```.*?```/gs, '').matchAll(/`([^`\n]+)`/g)].map(
    ([, code = '']) => code,
  );
  return [...blocks, ...inline.filter((code) => programs.test(code))].map((line) =>
    line.replace(/\s+#\s.*$/, ''),
  );
}

/** The single commands of these lines, without the settings before them. */
export const commandsOf = (text: string): string[] =>
  linesOf(text)
    .flatMap((line) => line.split(' && '))
    .map((command) => command.replace(/^\w+=\S+ /, '').trim());

/** Everything else that the documents name runs in test/e2e/readme.test.ts. What is checked of these stands beside them. */
export const notRun: ReadonlyArray<[command: RegExp, why: string]> = [
  [/^npm (?:ci|install)$/, 'npm does it: .ci/run begins with it, in a fresh folder'],
  [/^npm (?:test|start)\b|^npm run [\w:]+/, 'the script exists (test/tools/docs); what it starts has tests'],
  [/^\.ci\/run$/, 'it is what runs the tests'],
  [/^(?!curl).*[…[{]/, 'a gap for the reader; command and options exist (test/tools/docs)'],
  [
    /^(?:npx )?ourvidz (?:setup cuda|models (?:pull|import|verify))\b/,
    'gigabytes; test/cli runs it on doubles',
  ],
  [/^(?:npx )?ourvidz doctor --local$/, 'test/cli/doctor.test.ts runs it'],
  [
    /^(?:npx )?ourvidz (?:generate|queue pause|instance drain|generate --\w+(?: FILE)?)$/,
    'a name, no whole line',
  ],
  [/^(?:npx )?ourvidz generate "a lighthouse at dusk"/, 'it writes outside of the folder; other prompts run'],
  [
    /^(?:node|python) (?:-\S+ (?:tsx )?)*(?!deploy\/make-keys)[\w./-]+\.(?:ts|mjs|py|js)\b/,
    'the file exists; gigabytes',
  ],
  [/^(?:npx|node|redis-cli|kill -9|systemctl stop)$/, 'a program, no command'],
  [/^(?:pgrep|kill|node inspect) /, 'for a person at a debugger: of the operating system and of Node'],
  [/^docker compose /, 'there is no Docker where the tests run; test/deploy reads the files'],
  [/^(?:kubectl|kustomize) |^cd deploy\/kubernetes$/, 'there is no cluster; test/deploy reads the manifests'],
  [
    /^(?:apt-get|useradd|git clone|cd \/opt\S*|install|printf|cp|systemctl|journalctl|tar)\b/,
    'for a machine of its own, as root; test/deploy reads the units',
  ],
  [/^deploy\/[\w-]+\.sh$/, 'test/deploy runs it, with models, a pod id and cards of its own'],
  [/^source <\(npx ourvidz completion /, 'test/cli/person.test.ts loads it in bash, zsh and fish'],
  [/^redis-cli BGSAVE$|^openssl rand /, 'of Redis and OpenSSL themselves'],
  [/^curl .*rest\.runpod\.io/, 'it needs an account of RunPod; test/deploy reads the template'],
];
