import { heldOutPictures } from '../fixtures.js';
import { fillStructures, type StructuredPrompt } from './fill.js';

/**
 * The fixed sets of prompts on held-out structures. Pairs of colour and shape that training leaves out have a
 * set of their own.
 */
export async function picturePrompts(count = 400): Promise<StructuredPrompt[]> {
  const isUnseen = unseenPairs();
  const free = (colour: string, shape: string) => !isUnseen(colour, shape);
  const [one, two] = [Math.round(0.4 * count), Math.round(0.35 * count)];
  return [
    ...(await fillStructures(['one'], one, 2401, free)),
    ...(await fillStructures(['two'], two, 2402, free)),
    ...(await fillStructures(['several'], count - one - two, 2403, free)),
  ];
}

export async function unseenPairPrompts(count = 60): Promise<StructuredPrompt[]> {
  const isUnseen = unseenPairs();
  return fillStructures(['one'], count, 2404, isUnseen);
}

export const clipPrompts = (count = 200) => fillStructures(['clip'], count, 2405);
export const scenePrompts = (count = 60) => fillStructures(['scene'], count, 2406);
export const outsidePrompts = (count = 200) => fillStructures(['outside'], count, 2407);

/** Those of the fixture, and one of the shapes that came after it. */
function unseenPairs(): (colour: string, shape: string) => boolean {
  const pairs = new Set(['pink ring']);
  for (const { objects } of heldOutPictures('unseen pair'))
    for (const { colour, shape } of objects) pairs.add(`${colour} ${shape}`);
  return (colour, shape) => pairs.has(`${colour} ${shape}`);
}
