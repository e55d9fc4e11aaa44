/**
 * What references do on the pocket SDXL: pairs of a drawn reference and a prompt, at several strengths; 0 is
 * without the reference.
 *   node dist/tools/pocket-references.js [--models DIR] [--count 100] [--types composition,style,character]
 * [--strengths 0,0.25,0.5,0.75,1] [--keep DIR]
 */
import { mkdir, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { ReferenceType } from '../src/inference/generation.js';
import { openPainter, pocketSdxl } from './pocket-check/draw.js';
import { measureReferences, referencePairs } from './pocket-check/references.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: pocketSdxl },
    count: { type: 'string', default: '100' },
    types: { type: 'string', default: 'composition,style,character' },
    strengths: { type: 'string', default: '0,0.25,0.5,0.75,1' },
    keep: { type: 'string' },
  },
});
const painter = await openPainter(values.models);
const folder = values.keep ?? (await mkdtemp(path.join(tmpdir(), 'ourvidz-references-')));
await mkdir(folder, { recursive: true });
console.log(
  `references as ${painter.loaded.model.features.includes('ip_adapter') ? 'image tokens' : 'image-to-image'}, ${values.count} pairs a mode`,
);
for (const type of values.types.split(',') as ReferenceType[]) {
  const rows = await measureReferences(
    painter,
    referencePairs(type, Number(values.count)),
    values.strengths.split(',').map(Number),
    folder,
    values.keep !== undefined,
  );
  for (const { strength, kept, distance } of rows)
    console.log(
      `${type.padEnd(12)} strength ${strength.toFixed(2)}  kept ${(100 * kept).toFixed(1).padStart(5)} %  distance ${distance.toFixed(2)}`,
    );
}
await painter.close();
