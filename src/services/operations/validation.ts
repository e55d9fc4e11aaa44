import type { Trouble } from '../../lib/errors.js';
import type { Logger } from 'pino';
import type { Engines } from '../engines/engines.js';
import { hasComputed, isDown } from '../engines/engine-status.js';

export type Validation = ReturnType<typeof createValidation>;

export interface NamedCheck {
  name: Finding['check'];
  subject: string;
  run: Check;
  /** For one that takes longer than a server may. */
  timeoutMs?: number;
}

/**
 * Runs all checks side by side; a check that throws or outlasts `timeoutMs` is itself a finding, so that one
 * dead server never hides the rest of the report.
 */
export function createValidation({
  checks,
  timeoutMs = 10_000,
}: {
  checks: readonly NamedCheck[];
  timeoutMs?: number;
}) {
  return {
    async run(): Promise<ValidationReport> {
      const findings = (
        await Promise.all(
          checks.map(async ({ name, subject, run, timeoutMs: limitMs = timeoutMs }) => {
            const controller = new AbortController();
            let timer: NodeJS.Timeout | undefined;
            const late = new Promise<Finding[]>((resolve) => {
              timer = setTimeout(() => {
                controller.abort();
                resolve([
                  {
                    check: name,
                    subject,
                    severity: 'error',
                    message: `no answer within ${limitMs / 1000} s`,
                    cure: 'Find out why it hangs, then validate again.',
                  },
                ]);
              }, limitMs);
            });
            try {
              return await Promise.race([run(controller.signal), late]);
            } catch (error) {
              return [
                {
                  check: name,
                  subject,
                  severity: 'error',
                  message: error instanceof Error ? error.message : String(error),
                } satisfies Finding,
              ];
            } finally {
              clearTimeout(timer);
            }
          }),
        )
      ).flat();
      const failed = new Set(
        findings.filter(({ severity }) => severity === 'error').map(({ check }) => check),
      );
      return {
        valid: failed.size === 0,
        checks: Object.fromEntries(
          checkNames.map((name) => [name, !failed.has(name)]),
        ) as ValidationReport['checks'],
        findings,
      };
    },
  };
}

/**
 * The five checks of the reference, by their contract names (spec 8; what they mean here is stated in
 * `openapi.yaml`).
 */
export type CheckName =
  'environment_variables' | 'model_paths' | 'gpu_availability' | 'python_dependencies' | 'worker_scripts';
const checkNames: readonly CheckName[] = [
  'environment_variables',
  'model_paths',
  'gpu_availability',
  'python_dependencies',
  'worker_scripts',
];

/** `error`: jobs will fail; `warning`: works, with less than there could be. */
type Severity = 'ok' | 'warning' | 'error';

/** One thing that was looked at. What is not ok says what to do. */
export interface Finding {
  check: CheckName;
  /** What was looked at: a variable, a folder, a package, a server. */
  subject: string;
  severity: Severity;
  message: string;
  cure?: string;
  /** Round trip, for servers. */
  latencyMs?: number;
}

/** A trouble as `doctor` says it. */
export const findingOf = (
  check: CheckName,
  subject: string,
  { severity, what, cause, cure }: Trouble,
): Finding => ({
  check,
  subject,
  severity: severity === 'critical' ? 'error' : severity,
  message: `${what}: ${cause}`,
  cure,
});

export type Check = (signal: AbortSignal) => Promise<Finding[]>;

interface ValidationReport {
  valid: boolean;
  /** True unless something under that name is an error. */
  checks: Record<CheckName, boolean>;
  findings: Finding[];
}

interface StartupReportOptions {
  engines: Pick<Engines, 'has' | 'statuses' | 'onChange'>;
  validation: Validation;
  log: Logger;
  /** The checks load native runtimes: the first job goes before them. */
  delayMs?: number;
}

/**
 * Checks everything once, soon after every engine has had its first start, and logs what is not well with its
 * cure: nobody asks at the start. Returns the function that gives up waiting.
 */
export function reportAfterStart({
  engines,
  validation,
  log,
  delayMs = 10_000,
}: StartupReportOptions): () => void {
  const settled = () =>
    engines
      .statuses()
      .filter(({ kind }) => engines.has(kind))
      .every((status) => status.resting || hasComputed(status) || isDown(status));

  async function report(): Promise<void> {
    const { findings } = await validation.run();
    for (const { severity, check, subject, message, cure } of findings) {
      if (severity !== 'ok')
        log[severity === 'error' ? 'error' : 'warn'](
          { event: 'validation', check, subject, cure },
          `${subject}: ${message}`,
        );
    }
    const count = (severity: string) => findings.filter((finding) => finding.severity === severity).length;
    log.info(
      { event: 'validation', checked: findings.length, errors: count('error'), warnings: count('warning') },
      'checked after the start',
    );
  }

  let timer: NodeJS.Timeout | undefined;
  let off = () => {};
  const look = () => {
    if (!settled()) return;
    off();
    timer = setTimeout(() => {
      report().catch((error: unknown) => log.warn({ err: error }, 'the checks after the start failed'));
    }, delayMs).unref();
  };
  off = engines.onChange(look);
  look();
  return () => {
    off();
    clearTimeout(timer);
  };
}
