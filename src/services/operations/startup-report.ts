import type { Logger } from 'pino';
import type { Engines } from '../engines/engines.js';
import { hasComputed, isDown } from './health.js';
import type { Validation } from './validation.js';

export interface StartupReportOptions {
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
