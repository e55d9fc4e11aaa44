/** Writes src/contract/generated.ts from openapi.yaml. `--check` fails when it is not fresh, `--if-stale` writes only then. */
import { readFile, writeFile } from 'node:fs/promises';
import openapiTypescript, { astToString } from 'openapi-typescript';

const target = new URL('../src/contract/generated.ts', import.meta.url);
const source = new URL('../openapi.yaml', import.meta.url);
const text = `/** Generated from openapi.yaml by \`npm run build\`; do not edit. */\n${astToString(await openapiTypescript(source))}`;
const known = await readFile(target, 'utf8').catch(() => '');

if (process.argv.includes('--check')) {
  if (known !== text) {
    console.error('src/contract/generated.ts is not what openapi.yaml says: run npm run build and commit it');
    process.exit(1);
  }
} else if (known !== text) {
  await writeFile(target, text);
}
