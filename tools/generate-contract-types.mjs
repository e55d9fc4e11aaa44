/**
 * Writes what is generated from openapi.yaml: the types of src/contract, and for the client the table of operations.
 * `--check` fails when they are not fresh.
 */
import { readFile, writeFile } from 'node:fs/promises';
import openapiTypescript, { astToString } from 'openapi-typescript';
import { parse } from 'yaml';

const source = new URL('../openapi.yaml', import.meta.url);
const heading = '/** Generated from openapi.yaml by `npm run build`; do not edit. */';
const { paths } = parse(await readFile(source, 'utf8'));

/** Of every operation: method, path, and the parameters that stand in the query and in headers. */
const rows = Object.entries(paths).flatMap(([path, { parameters: shared = [], ...methods }]) =>
  Object.entries(methods).map(([method, { operationId, parameters: own = [] }]) => {
    const named = (place) =>
      JSON.stringify([...shared, ...own].filter((one) => one.in === place).map(({ name }) => name));
    return `  ${operationId}: ['${method.toUpperCase()}', '${path}', ${named('query')}, ${named('header')}],`;
  }),
);
const files = {
  '../src/contract/generated.ts': astToString(await openapiTypescript(source)),
  '../client/operations.ts': `export const routes = {\n${rows.join('\n')}\n} as const;\n`,
};

for (const [name, content] of Object.entries(files)) {
  const target = new URL(name, import.meta.url);
  const text = `${heading}\n${content}`;
  const known = await readFile(target, 'utf8').catch(() => '');
  if (known === text) continue;
  if (process.argv.includes('--check')) {
    console.error(`${name.slice(3)} is not what openapi.yaml says: run npm run build and commit it`);
    process.exitCode = 1;
  } else await writeFile(target, text);
}
