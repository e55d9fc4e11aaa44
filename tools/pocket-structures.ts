/**
 * Writes the prompts that the pocket models are measured on, as JSON lines with what each states.
 *   node dist/tools/pocket-structures.js [--pictures 400] [--clips 200] [--scenes 60] [--outside 200]
 */
import { parseArgs } from 'node:util';
import {
  clipPrompts,
  outsidePrompts,
  picturePrompts,
  scenePrompts,
  unseenPairPrompts,
} from './pocket-check/structures/sets.js';

const { values } = parseArgs({
  options: {
    pictures: { type: 'string', default: '400' },
    clips: { type: 'string', default: '200' },
    scenes: { type: 'string', default: '60' },
    outside: { type: 'string', default: '200' },
  },
});
const clips = (await clipPrompts(Number(values.clips))).map(({ objects, ...item }) => ({
  media: 'clip',
  ...item,
  ...objects[0],
}));
const pictures = [
  ...(await picturePrompts(Number(values.pictures))),
  ...(await unseenPairPrompts()).map((item) => ({ ...item, kind: 'unseen pair' })),
].map((item) => ({ media: 'picture', ...item }));
const texts = [
  ...(await scenePrompts(Number(values.scenes))),
  ...(await outsidePrompts(Number(values.outside))),
].map((item) => ({ media: 'text', ...item }));
for (const item of [...pictures, ...clips, ...texts]) console.log(JSON.stringify(item));
