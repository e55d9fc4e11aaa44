import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';

/** A models folder that holds nothing but a very small SDXL: one engine, which starts soon. */
export async function onlyTinySdxl(t: Pick<Test, 'teardown'>): Promise<string> {
  const models = await mkdtemp(path.join(tmpdir(), 'ourvidz-models-'));
  t.teardown(() => rm(models, { recursive: true, force: true }));
  await symlink(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), path.join(models, 'sdxl'));
  return models;
}
