/**
 * Exit codes of `ourvidz`, part of its interface (README and `--help` state them).
 * A shell script can tell "the job failed" from "the service is away" without reading text.
 */
export const exitCodes = {
  ok: 0,
  /** The job, or the enhancement, ended in failure. */
  failed: 1,
  /** Wrong arguments, or the service refused the values. */
  usage: 2,
  /** Nothing answers at the address. */
  unreachable: 3,
  /** The API key is missing or wrong. */
  unauthorized: 4,
  /** No such job, dead letter or callback. */
  notFound: 5,
  /** The queue is full or the service is not ready; trying again later makes sense. */
  busy: 6,
  /** The service answered with an error of its own, or with something that is not its contract. */
  serviceError: 7,
  /** `doctor` found warnings and no errors. */
  warnings: 8,
  /** Ctrl-C; the job was cancelled. */
  interrupted: 130,
} as const;

/** What the command line says before it ends with `exitCode`. */
export class CliError extends Error {
  constructor(message: string, readonly exitCode: number) {
    super(message);
    this.name = 'CliError';
  }
}
