import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * For tap's `skip` option: false when the program is installed, else the reason. `npm test` reads the quoted
 * name and installs the program first where it may; in CI a skip is a failure.
 */
export function requireCommand(
  command:
    | 'redis-server'
    | 'ffmpeg'
    | 'ffprobe'
    | 'chromium'
    | 'curl'
    | 'shellcheck'
    | 'promtool'
    | 'systemd-analyze'
    | 'script'
    | 'bash'
    | 'zsh'
    | 'fish'
    | 'python3'
    | 'sh',
): string | false {
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .some((folder) => existsSync(join(folder, command)));
  return found ? false : `${command} is not installed`;
}
