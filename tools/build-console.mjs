/**
 * Builds the console into dist/console: one script, one style sheet, one font, and the page that names them. Names
 * change with the content, so that browsers keep what they have. `--watch` builds again on every change.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const target = path.join(root, 'dist', 'console');

const writePage = {
  name: 'page',
  setup(build) {
    build.onEnd(async ({ metafile, errors }) => {
      if (errors.length > 0) return;
      const built = Object.keys(metafile.outputs).map((file) => path.basename(file));
      const named = (form) => `/console/${built.find((name) => form.test(name))}`;
      const page = (await readFile(path.join(root, 'console', 'index.html'), 'utf8'))
        .replace('console.css', named(/^console-.*\.css$/))
        .replace('console.js', named(/^console-.*\.js$/))
        .replace('font.woff2', named(/\.woff2$/))
        .replace('icon.svg', named(/\.svg$/));
      await writeFile(path.join(target, 'index.html'), page);
    });
  },
};

await rm(target, { recursive: true, force: true });
const options = {
  absWorkingDir: root,
  entryPoints: { console: 'console/src/main.tsx', icon: 'console/src/icon.svg' },
  outdir: target,
  entryNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  publicPath: '/console',
  loader: { '.woff2': 'file', '.svg': 'copy' },
  tsconfig: 'console/tsconfig.json',
  bundle: true,
  minify: true,
  metafile: true,
  format: 'esm',
  target: 'es2022',
  logLevel: 'warning',
  plugins: [writePage],
};
if (process.argv.includes('--watch')) await (await esbuild.context(options)).watch();
else await esbuild.build(options);
