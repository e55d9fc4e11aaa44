import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';

const shipped = path.join(projectRoot(), 'models/pocket/wan');
const tiny = path.join(projectRoot(), 'test/parity/models/wan-tiny');

/**
 * A models folder with WAN alone, so that nothing else loads: the shipped model, or the random one of the
 * parity tests.
 */
export async function wanModelsFolder(t: Test, which: 'shipped' | 'tiny' = 'shipped'): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-wan-models-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await symlink(which === 'shipped' ? shipped : tiny, path.join(folder, 'wan'));
  return folder;
}
