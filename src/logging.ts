import { pino, type DestinationStream, type Logger } from 'pino';
import { printable } from './lib/printable.js';
import { secretsOf, type Config } from './config.js';

/**
 * Fields that hold what users wrote, at the top of a line or one below, and what clients of Redis were asked
 * to send.
 */
const promptFields = [
  'prompt',
  'original_prompt',
  'enhanced_prompt',
  'negative_prompt',
  'conversation_context',
  'payload',
]
  .flatMap((field) => [field, `*.${field}`])
  .concat('err.command.args', 'err.previousErrors');
const secretFields = ['authorization', 'headers.authorization', 'req.headers.authorization'];

/**
 * The service's log: JSON lines. Configured secrets are cut out of every line, wherever they come from (an
 * address in an error message, a header in a dump); prompts are redacted unless LOG_PROMPTS is on. A terminal
 * that shows the log obeys nothing in it.
 */
export function createLog(config: Config, destination?: DestinationStream): Logger {
  const secrets = secretsOf(config).map((secret) => JSON.stringify(secret).slice(1, -1));
  return pino(
    {
      level: config.logLevel,
      redact: {
        paths: config.logPrompts ? secretFields : [...secretFields, ...promptFields],
        censor: '[redacted]',
      },
      hooks: {
        streamWrite: (line) =>
          printable(secrets.reduce((text, secret) => text.replaceAll(secret, '[secret]'), line)),
      },
    },
    destination ?? pino.destination(1),
  );
}
