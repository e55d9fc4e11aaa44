import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Folders whose tests take minutes: begun first, so that the short ones fill the gaps. */
const slowFolders = ['e2e', 'contract-cases', 'chaos', 'soak'];

/** Every test, as `test/…/name.test.ts`, in running order. */
export function findTests(root: string): string[] {
  const isSlow = (file: string) => slowFolders.some((folder) => file.startsWith(`test/${folder}/`));
  return readdirSync(path.join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => path.posix.join('test', ...file.split(path.sep)))
    .sort((a, b) => Number(isSlow(b)) - Number(isSlow(a)) || a.localeCompare(b));
}

/** A test and what it imports of the test folder, at any depth. */
export function withImports(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(/\bfrom '(\.[^']+)\.js'/g)) {
    const imported = path.join(path.dirname(file), `${specifier}.ts`);
    if (imported.includes(`${path.sep}test${path.sep}`) && existsSync(imported)) withImports(imported, seen);
  }
  return seen;
}

/** Words of a test, or of a helper, that takes more than a moment: processes, servers, the whole service, models. */
const slowWords = [
  /child_process|ownProgram|test-engine|createSupervisor/,
  /worker_threads|node:(http|net)'|\.listen\(/,
  /helpers\/build|createServices/,
  /models\/(pocket|folder)|test\/parity|pocket-check|wan-models/,
];

/** Whether a test belongs to `npm run test:fast`. */
export function isFast(file: string): boolean {
  return [...withImports(file)].every((source) => {
    const text = readFileSync(source, 'utf8');
    return slowWords.every((words) => !words.test(text));
  });
}
