import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import type { MeasuredCase } from '../../tools/parity/parts.js';

/** The exported models that the references were recorded from. */
export const models = path.join(projectRoot(), 'test/parity/models');

/** Where more references in the same format lie, if there are any. */
const further = process.env['PARITY_KIT'] ?? path.join(projectRoot(), '../shared/parity');

/** Folders of recorded references: the repository's own, and one beside the checkout where there is one. */
export const kits = [path.join(projectRoot(), 'test/parity/kit'), ...(existsSync(further) ? [further] : [])];

/** Every case is within its bounds, and there are at least so many. */
export function check(t: Test, cases: MeasuredCase[], atLeast: number): void {
  t.ok(cases.length >= atLeast, `${cases.length} cases`);
  for (const { name, measures } of cases) {
    t.ok(measures.length > 0, name);
    for (const { what, value, bound, unit, ok } of measures)
      t.ok(ok, `${name}: ${what} ${value.toPrecision(3)} ${unit}, bound ${bound}`);
  }
}
