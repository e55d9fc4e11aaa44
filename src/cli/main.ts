#!/usr/bin/env node
import { CommanderError } from 'commander';
import { CliError, exitCodes, writeNote } from './output.js';
import { buildProgram } from './program.js';

try {
  await buildProgram().parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
  // Commander has printed its own message already.
  if (!(error instanceof CommanderError)) writeNote(error instanceof Error ? error.message : String(error));
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CliError) return error.exitCode;
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  return exitCodes.serviceError;
}
