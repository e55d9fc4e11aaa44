import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import ts from 'typescript';
import { projectRoot } from '../../src/lib/project.js';

/** The client as `npm run build` makes it. */
export async function compileClient(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const source = path.join(projectRoot(), 'client');
  for (const name of (await readdir(source)).filter((each) => each.endsWith('.ts'))) {
    const { outputText } = ts.transpileModule(await readFile(path.join(source, name), 'utf8'), {
      compilerOptions: {
        module: ts.ModuleKind.ESNext,
        target: ts.ScriptTarget.ES2022,
        verbatimModuleSyntax: true,
      },
    });
    await writeFile(path.join(folder, name.replace(/\.ts$/, '.js')), outputText);
  }
}
