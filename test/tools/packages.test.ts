import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';

const root = projectRoot();
interface Lock {
  packages: Record<
    string,
    {
      version: string;
      dev?: boolean;
      license?: string;
      hasInstallScript?: boolean;
      resolved?: string;
      os?: string | string[];
      bin?: object;
    }
  >;
}
const read = (file: string) => JSON.parse(readFileSync(path.join(root, file), 'utf8')) as unknown;
const { packages } = read('package-lock.json') as Lock;
const { allowScripts, optionalDependencies } = read('package.json') as {
  allowScripts: Record<string, boolean>;
  optionalDependencies: Record<string, string>;
};

t.test('the lock file runs no denied script and warns of no Node that we do not use', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, ['tools/tidy-lockfile.mjs', '--check'], {
    cwd: root,
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  for (const [location, { hasInstallScript = false }] of Object.entries(packages)) {
    const name = location.split('node_modules/').at(-1) ?? '';
    if (hasInstallScript) t.equal(allowScripts[name], true, `${name} has a script that is allowed`);
  }
});

t.test('packages come from the registry alone, for every system', async (t) => {
  for (const [location, { resolved = 'https://registry.npmjs.org/' }] of Object.entries(packages))
    t.match(resolved, /^https:\/\/registry\.npmjs\.org\//, location);
  for (const name of Object.keys(optionalDependencies)) {
    const { version, os, bin } = packages[`node_modules/${name}`] ?? {};
    t.match(
      { version, os: [os].flat()[0], bin },
      { version: /^2[46]\./, os: /linux|darwin|win32/, bin: { node: /node/ } },
    );
  }
  for (const system of ['linux-x64', 'darwin-arm64', 'win32-x64'])
    t.ok(packages[`node_modules/@img/sharp-${system}`], `sharp for ${system}`);
});

t.test('what the service runs on has the licences that NOTICE.md names', (t) => {
  const plain = /^(?:MIT|ISC|BSD-[23]-Clause|Apache-2\.0|BlueOak-1\.0\.0|0BSD|\(.*\bMIT\b.*\))$/;
  // Programs and libraries in rows of their own; MIT by their texts, without a word of it in package.json.
  const apart = /@ff(?:mpeg|probe)-installer\/|@img\/sharp-|@node-llama-cpp\/|combine-errors$/;
  for (const [location, { dev, license = '' }] of Object.entries(packages))
    if (location !== '' && dev !== true && !apart.test(location)) t.match(license, plain, location);
  t.end();
});

t.test('programs of this project run on the Node that the packages bring', async (t) => {
  const { stdout } = spawnSync('npm', ['exec', '--offline', '--', 'node', '--version'], {
    cwd: root,
    encoding: 'utf8',
  });
  const own = ['node', 'node-bin']
    .map((prefix) => packages[`node_modules/${prefix}-${process.platform}-${process.arch}`])
    .find((found) => found !== undefined);
  t.equal(stdout.trim(), `v${own?.version}`);
});

t.test('what was built is not built again until something is newer', (t) => {
  const folder = t.testdir({ tools: {}, dist: { '.built': '' } });
  copyFileSync(path.join(root, 'tools/build.mjs'), path.join(folder, 'tools/build.mjs'));
  for (const name of ['src/lib', 'client', 'console', 'test', 'bench'])
    mkdirSync(path.join(folder, name), { recursive: true });
  // Nothing of the compiler is there: whatever begins to build ends with an error.
  const build = (...args: string[]) =>
    spawnSync(process.execPath, [path.join(folder, 'tools/build.mjs'), ...args]).status;
  const tomorrow = new Date(Date.now() + 86_400_000);
  utimesSync(path.join(folder, 'dist/.built'), tomorrow, tomorrow);
  t.equal(build('--if-needed'), 0, 'nothing to do');
  t.not(build(), 0, 'told to, it builds');
  writeFileSync(path.join(folder, 'src/lib/new.ts'), '');
  const later = new Date(tomorrow.getTime() + 1000);
  utimesSync(path.join(folder, 'src/lib/new.ts'), later, later);
  t.not(build('--if-needed'), 0, 'a source that is newer');
  utimesSync(path.join(folder, 'src/lib/new.ts'), new Date(), new Date());
  t.equal(build('--if-needed'), 0);
  utimesSync(path.join(folder, 'src/lib'), later, later);
  t.not(build('--if-needed'), 0, 'a folder that lost a file');
  t.end();
});
