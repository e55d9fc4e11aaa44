/**
 * Writes the prompts that the pocket models are measured on, as JSON lines with what each states.
 *   node dist/tools/pocket-structures.js [--pictures 400] [--clips 200] [--scenes 60] [--outside 200]
 */
import { parseArgs } from 'node:util';
import { clipPrompts, outsidePrompts, picturePrompts, scenePrompts } from './pocket-check/structures/sets.js';

const { values } = parseArgs({
  options: {
    pictures: { type: 'string', default: '400' },
    clips: { type: 'string', default: '200' },
    scenes: { type: 'string', default: '60' },
    outside: { type: 'string', default: '200' },
  },
});
for (const item of [
  ...(await picturePrompts(Number(values.pictures))),
  ...(await clipPrompts(Number(values.clips))),
  ...(await scenePrompts(Number(values.scenes))),
  ...(await outsidePrompts(Number(values.outside))),
])
  console.log(JSON.stringify(item));
