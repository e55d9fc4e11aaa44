import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs tests may start, with the Debian package that brings each. */
const packages: ReadonlyMap<string, string> = new Map([
  ['redis-server', 'redis-server'],
  ['ffmpeg', 'ffmpeg'],
  ['ffprobe', 'ffmpeg'],
  ['chromium', 'chromium'],
  ['curl', 'curl'],
  ['shellcheck', 'shellcheck'],
  ['promtool', 'prometheus'],
  ['systemd-analyze', 'systemd'],
  ['script', 'bsdutils'],
  ['bash', 'bash'],
  ['zsh', 'zsh'],
  ['fish', 'fish'],
  ['python3', 'python3'],
  ['sh', 'dash'],
]);

export function isInstalled(command: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * Programs the given compiled files name in quotes, e.g. `requireCommand('curl')` or `spawn('redis-server',
 * …)`.
 */
export function commandsNamedIn(files: readonly string[]): string[] {
  const sources = files.map((file) => readFileSync(file, 'utf8'));
  return [...packages.keys()].filter((command) => sources.some((source) => source.includes(`'${command}'`)));
}

/**
 * Installs what is missing of `commands` with apt-get, where this process may.
 * @returns the commands still missing, with the reason
 */
export function installMissing(
  commands: readonly string[],
  say: (line: string) => void,
): Map<string, string> {
  const missing = commands.filter((command) => !isInstalled(command));
  if (missing.length === 0) return new Map();
  const failed = (reason: string) =>
    new Map(missing.filter((command) => !isInstalled(command)).map((command) => [command, reason]));
  if (!isInstalled('apt-get')) return failed('not installed, and this system has no apt-get');
  if (process.getuid?.() !== 0)
    return failed(`not installed, and only root may: sudo apt-get install ${packagesOf(missing).join(' ')}`);
  say(`Installing for the tests: ${packagesOf(missing).join(' ')}`);
  // The package lists of a fresh container are empty or old: one update, only if the first try finds nothing.
  if (
    aptGet('install', ...packagesOf(missing)) ||
    (aptGet('update') && aptGet('install', ...packagesOf(missing)))
  )
    return failed('installed, but its program is not in PATH');
  return failed('apt-get could not install it');
}

function packagesOf(commands: readonly string[]): string[] {
  return [...new Set(commands.map((command) => packages.get(command) ?? command))];
}

function aptGet(action: 'install' | 'update', ...names: string[]): boolean {
  const args =
    action === 'install' ? ['install', '-y', '-qq', '--no-install-recommends', ...names] : ['update', '-qq'];
  const run = spawnSync('apt-get', args, {
    stdio: ['ignore', 'ignore', 'ignore'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    timeout: 600_000,
  });
  return run.status === 0;
}
