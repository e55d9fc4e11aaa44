#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { ownVersion } from '../lib/project.js';
import { asCliError } from './client.js';
import { registerGenerate } from './commands/generate.js';
import { registerCallbacks, registerJobs } from './commands/jobs.js';
import { registerDeadLetters, registerHolds } from './commands/operators.js';
import { registerModels } from './commands/models.js';
import { registerDoctor, registerServiceCommands } from './commands/service.js';
import { registerSetup } from './commands/setup.js';
import { endWhenNobodyReads, exitCodeMeanings, exitCodes, writeLine, writeNote } from './output.js';

endWhenNobodyReads();
try {
  await buildProgram().parseAsync();
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
    registerDoctor,
    registerModels,
    registerSetup,
    registerHolds,
    registerDeadLetters,
    registerCallbacks,
  ])
    register(program);
  return program;
}

function exitCodeLines(): string {
  return Object.entries(exitCodeMeanings)
    .map(([name, meaning]) => `${String(exitCodes[name as keyof typeof exitCodes]).padStart(5)}  ${meaning}`)
    .join('\n');
}
