#!/usr/bin/env node
import { Argument, Command, CommanderError, type Option } from 'commander';
import { ownVersion } from '../lib/project.js';
import { asCliError } from './client.js';
import { registerGenerate } from './commands/generate.js';
import { registerCallbacks, registerJobs } from './commands/jobs.js';
import { registerDeadLetters, registerHolds } from './commands/operators.js';
import { registerModels } from './commands/models.js';
import { registerDoctor, registerEngines, registerServiceCommands } from './commands/service.js';
import { registerKeys, registerSetup } from './commands/setup.js';
import { endWhenNobodyReads, exitCodeMeanings, exitCodes, writeLine, writeNote } from './output.js';

/** The whole command line; throws commander's errors instead of ending the process. */
function buildProgram(): Command {
  const program = new Command('ourvidz')
    .description('Talks to a running OurVidz worker: submit jobs, watch them, look after the queue.')
    .version(ownVersion())
    .option('--url <url>', 'address of the service (OURVIDZ_URL; default http://127.0.0.1:7860)')
    .option(
      '--key <key>',
      'API key (WAN_WORKER_API_KEY; default: the key a local service generated, DATA_DIR/api-key)',
    )
    .option('--json', 'print JSON for scripts')
    .showHelpAfterError('(ourvidz --help says more)')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => writeLine(text.trimEnd()),
      writeErr: (text) => writeNote(text.trimEnd()),
    })
    .addHelpText(
      'after',
      `
Examples:
  $ ourvidz generate "a red circle above a blue square" --images 3 --seed 7
  $ ourvidz jobs list --status failed --json
  $ ourvidz status
  $ ourvidz models pull qwen2.5-7b-instruct --quant q4_k_m
  $ ourvidz setup cuda

Exit codes:
${exitCodeLines()}`,
    );
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
  program
    .command('completion')
    .description('print what teaches a shell to complete these commands')
    .addArgument(new Argument('<shell>').choices(Object.keys(completions)))
    .addHelpText(
      'after',
      `
  $ echo 'source <(ourvidz completion bash)' >> ~/.bashrc
  $ echo 'source <(ourvidz completion zsh)' >> ~/.zshrc     # after compinit
  $ ourvidz completion fish > ~/.config/fish/completions/ourvidz.fish`,
    )
    .action((shell: keyof typeof completions) => writeLine(completions[shell](waysOf(program)).trimEnd()));
  // Alone it says how things are.
  program.allowExcessArguments().action(async () => {
    const [unknown] = program.args;
    if (unknown !== undefined) program.error(`error: unknown command '${unknown}'`);
    await program.parseAsync([...process.argv.slice(2), 'status'], { from: 'user' });
    writeNote('\nourvidz --help says what else there is.');
  });
  return program;
}

/** A place on the command line, as ` jobs list`, and what may come there. */
interface Way {
  at: string;
  commands: Command[];
  options: Option[];
  choices: readonly string[];
}

function waysOf(command: Command, at = ''): Way[] {
  const options = [...command.options, ...(at === '' ? [] : (command.parent?.options ?? []))];
  const choices = command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices);
  const own = { at, commands: [...command.commands], options, choices };
  return [own, ...command.commands.flatMap((each) => waysOf(each, `${at} ${each.name()}`))];
}

const wordsOf = ({ commands, options, choices }: Way) =>
  [
    ...commands.map((each) => each.name()),
    ...choices,
    ...options.map(({ long }) => long ?? ''),
    '--help',
  ].join(' ');
/** One line for each option that takes one of a few values: ` generate:--type`, and what it may be. */
const linesFor = (ways: readonly Way[], line: (place: string, words: string) => string) =>
  ways
    .flatMap(({ at, options }) =>
      options.flatMap(({ long, argChoices }) =>
        argChoices === undefined ? [] : [line(`${at}:${long}`, argChoices.join(' '))],
      ),
    )
    .join('\n');
const deeper = (ways: readonly Way[]) => ways.slice(1).map(({ at }) => `'${at}'`);

/** Each shell walks from word to word as far as these are commands, and offers what may come next. */
const completions = {
  bash: (ways: readonly Way[]) => `# bash completion of ourvidz
_ourvidz() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" way="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$way $word" in ${deeper(ways).join('|')}) way="$way $word" ;; esac
  done
  case "$way:$prev" in
${linesFor(ways, (place, words) => `    '${place}') COMPREPLY=($(compgen -W '${words}' -- "$cur")); return ;;`)}
  esac
  case "$way" in
${ways.map((way) => `    '${way.at}') COMPREPLY=($(compgen -W '${wordsOf(way)}' -- "$cur")) ;;`).join('\n')}
  esac
}
complete -o default -F _ourvidz ourvidz
`,
  zsh: (ways: readonly Way[]) => `#compdef ourvidz
_ourvidz() {
  local way="" word prev="\${words[CURRENT-1]}"
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$way $word" in (${deeper(ways).join('|')}) way="$way $word" ;; esac
  done
  case "$way:$prev" in
${linesFor(ways, (place, words) => `    ('${place}') compadd -- ${words}; return ;;`)}
  esac
  case "$way" in
${ways.map((way) => `    ('${way.at}') compadd -- ${wordsOf(way)} ;;`).join('\n')}
  esac
  _files
}
compdef _ourvidz ourvidz
`,
  fish: (ways: readonly Way[]) => `# fish completion of ourvidz
function __ourvidz_way
  set -l way ''
  for word in (commandline -opc)[2..-1]
    switch "$way $word"
      case ${deeper(ways).join(' ')}
        set way "$way $word"
    end
  end
  echo $way
end
${ways
  .flatMap((way) => {
    const here = `complete -c ourvidz -n 'test (__ourvidz_way) = "${way.at}"'`;
    return [
      ...way.commands.map((each) => `${here} -f -a ${each.name()} -d ${quoted(each.description())}`),
      ...(way.choices.length > 0 ? [`${here} -f -a '${way.choices.join(' ')}'`] : []),
      ...way.options.map(
        ({ long, description, required, argChoices }) =>
          `${here} -l ${(long ?? '').slice(2)} -d ${quoted(description)}` +
          (argChoices === undefined ? (required ? ' -r' : '') : ` -x -a '${argChoices.join(' ')}'`),
      ),
    ];
  })
  .join('\n')}
`,
};

const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;

function exitCodeLines(): string {
  return Object.entries(exitCodeMeanings)
    .map(([name, meaning]) => `${String(exitCodes[name as keyof typeof exitCodes]).padStart(5)}  ${meaning}`)
    .join('\n');
}

endWhenNobodyReads();
const program = buildProgram();
try {
  await program.parseAsync();
} catch (error) {
  // Commander has printed its own message already.
  if (error instanceof CommanderError)
    process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  else {
    const { message, exitCode } = asCliError(error);
    process.exitCode = exitCode;
    writeNote(message);
  }
}
