import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';

const root = projectRoot();
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'SECURITY.md',
  'NOTICE.md',
  'docs',
  'docs/decisions',
].flatMap((place) =>
  place.endsWith('.md')
    ? [place]
    : readdirSync(path.join(root, place))
        .filter((name) => name.endsWith('.md'))
        .map((name) => `${place}/${name}`),
);
/** Folders of the repository: a path that begins with one of them is meant to exist. */
const folders = 'src|client|examples|test|tools|bench|deploy|docs|prompts|models/pocket|\\.ci';

t.test('paths that the documents name exist', async (t) => {
  for (const document of documents) {
    const text = readFileSync(path.join(root, document), 'utf8');
    const named = [...text.matchAll(new RegExp(`(?<![\\w./-])(?:${folders})/[\\w./-]*\\w`, 'g'))].map(
      ([found]) => found,
    );
    for (const name of new Set(named)) t.ok(existsSync(path.join(root, name)), `${document}: ${name}`);
    for (const [, link = ''] of text.matchAll(/\]\((?!https?:|mailto:|#)([^)#\s]+)/g))
      t.ok(existsSync(path.join(root, path.dirname(document), link)), `${document}: link to ${link}`);
  }
});

t.test('npm scripts that the documents name exist', async (t) => {
  const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const document of documents)
    for (const [, name = ''] of readFileSync(path.join(root, document), 'utf8').matchAll(/npm run ([\w:]+)/g))
      t.ok(name in scripts, `${document}: npm run ${name}`);
});
