/**
 * After `npm install`: makes package-lock.json say what package.json means on every version of npm. `--check` only tells.
 *
 * - npm before 11.16 does not know `allowScripts` and would run what it denies (onnxruntime-node's downloads CUDA
 *   libraries from elsewhere than the registry). Without `hasInstallScript`, `npm ci` of no version looks for a script.
 * - `ourvidz setup cuda` fetches llama.cpp's CUDA build where there is a card: 540 MB that nobody else uses. `npm ci`
 *   goes by what the lock file says of a package, and installs no optional dependency that it does not name.
 * - npm judges `engines` by the Node it runs on itself, and warns; our programs run on the Node that the lock file brings.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const read = (name) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
const { allowScripts } = read('package.json');
const lock = read('package-lock.json');
const changes = [];
const fetchedLater = ['@node-llama-cpp/linux-x64-cuda', '@node-llama-cpp/linux-x64-cuda-ext'];
for (const [location, entry] of Object.entries(lock.packages)) {
  for (const name of fetchedLater) {
    if (location === `node_modules/${name}`) delete lock.packages[location];
    else if (entry.optionalDependencies?.[name] === undefined) continue;
    else delete entry.optionalDependencies[name];
    changes.push(`${location}: ourvidz setup cuda fetches ${name}`);
  }
  const name = location.split('node_modules/').at(-1);
  if (allowScripts[name] === false && entry.hasInstallScript) {
    delete entry.hasInstallScript;
    changes.push(`${name}: its install script is denied`);
  }
  // Of the oldest Node that our own runtime stands in for: 20.
  if (location !== '' && /^>=\s*2[1-9]/.test(entry.engines?.node ?? '')) {
    delete entry.engines;
    changes.push(`${name}: judged by the wrong Node`);
  }
}
if (changes.length > 0 && process.argv.includes('--check')) {
  console.error(`package-lock.json: run node tools/tidy-lockfile.mjs\n${changes.join('\n')}`);
  process.exitCode = 1;
} else if (changes.length > 0) {
  writeFileSync(new URL('../package-lock.json', import.meta.url), `${JSON.stringify(lock, null, 2)}\n`);
}
