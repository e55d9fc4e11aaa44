import { errors } from '../../errors/codes.js';
import type { AppError } from '../../errors/app-error.js';

export type ReferenceRule = 'url' | 'scheme' | 'credentials' | 'port' | 'publicAddress' | 'resolvable' | 'certificate' | 'redirects' | 'reachable' | 'size' | 'type' | 'pixels' | 'decodable';

/** A reference that is the producer's fault: named by its field, final. Never says what an internal name resolves to. */
export function refusal(field: string, rule: ReferenceRule, problem: string): AppError {
  const message = `${field} ${problem}`;
  return errors.invalidParameters.with({ details: [{ field, rule, message }] }, message);
}

/** A reference that could not be had this time: another attempt may. */
export function notNow(field: string, problem: string, cause?: unknown): AppError {
  return errors.unavailable.with({ cause }, `${field} could not be fetched: ${problem}`);
}
