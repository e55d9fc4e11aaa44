// npm links the commands of dependencies, not those of the project itself: this makes `npx ourvidz` work in a checkout.
import { chmodSync, mkdirSync, rmSync, symlinkSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const { bin } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
const linkFolder = path.join(root, 'node_modules/.bin');
mkdirSync(linkFolder, { recursive: true });
for (const [name, target] of Object.entries(bin)) {
  const link = path.join(linkFolder, name);
  rmSync(link, { force: true });
  symlinkSync(path.relative(linkFolder, path.join(root, target)), link);
  chmodSync(path.join(root, target), 0o755);
}
