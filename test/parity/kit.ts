import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';

/** Recorded references beside the checkout; `PARITY_KIT` names another folder in the same format. */
export const kitFolder = process.env['PARITY_KIT'] ?? path.join(projectRoot(), '../shared/parity');

/** True when the kit is there; otherwise the test says loudly what it did not check. */
export function requireKit(t: Test, name: string): boolean {
  if (existsSync(path.join(kitFolder, name))) return true;
  t.comment(`NOT CHECKED: ${kitFolder}/${name} is absent, so nothing was compared with the recorded references`);
  if (process.env['CI'] === 'true') t.fail(`in CI the recorded references must be there: ${name}`);
  else t.pass(`skipped without ${name}`);
  return false;
}
