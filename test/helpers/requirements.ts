import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { projectRoot } from '../../src/lib/project.js';

/**
 * For tap's `skip` option: false when the program is installed, else the reason. `npm test` reads the quoted
 * name and installs the program first where it may; in CI a skip is a failure.
 */
export function requireCommand(
  command: 'redis-server' | 'ffmpeg' | 'ffprobe' | 'chromium' | 'curl' | 'shellcheck',
): string | false {
  const found = (process.env['PATH'] ?? '')
    .split(delimiter)
    .some((folder) => existsSync(join(folder, command)));
  return found ? false : `${command} is not installed`;
}

/** Recorded references and contract cases live beside the checkout, not in it. */
export const sharedFolder = join(projectRoot(), '..', 'shared');

/** For tap's `skip` option: false when the file or folder of `../shared` is there, else the reason. */
export function requireShared(path: string): string | false {
  return existsSync(join(sharedFolder, path)) ? false : `../shared/${path} is not beside this checkout`;
}
