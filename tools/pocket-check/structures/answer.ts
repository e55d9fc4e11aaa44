import { assertionsIn, type Assertion } from './phrases.js';
import type { Stated } from './fill.js';
import { canonical, droppable, tokensOf, type Token } from './tokens.js';
import { shapeWords } from './words.js';

export type Target = 'image' | 'video';

/** What an answer did to the prompt it was made of, slot by slot. */
export interface AnswerVerdict {
  /** Words of the prompt that are gone. */
  lost: string[];
  /** What was added against what is stated. */
  contradicted: string[];
  /** Added things nobody asked for: objects, or words no rule knows. */
  invented: string[];
  /** Slots that were open and are filled now. */
  added: string[];
  /** Words about how the picture is made that fit any picture of the world. */
  finish: number;
  /** Slots that the prompt left open. */
  open: number;
}

/** All that is stated is there. */
export const keepsAll = ({ lost }: AnswerVerdict): boolean => lost.length === 0;
export const contradicts = ({ contradicted, invented }: AnswerVerdict): boolean =>
  contradicted.length + invented.length > 0;
/** Two fitting details, drawn ones as long as slots are open. */
export const hasTwoDetails = ({ added, finish, open }: AnswerVerdict): boolean =>
  added.length + finish >= 2 && added.length >= Math.min(2, open);

/** Reads the answer beside its prompt; knows what the prompt states and nothing of how answers are trained. */
export function judgeAnswer(prompt: string, stated: Stated, target: Target, answer: string): AnswerVerdict {
  const verdict: AnswerVerdict = {
    lost: [],
    contradicted: [],
    invented: [],
    added: [],
    finish: 0,
    open: openSlots(stated, target).size,
  };
  const { lost, inserted, rest } = align(prompt, answer);
  verdict.lost = lost;
  const said: Array<Assertion & { subject?: string | undefined }> = inserted.flatMap(({ word, noun }) =>
    assertionsIn(word).map((each) => ({ ...each, subject: noun })),
  );
  for (const assertion of [...said, ...assertionsIn(rest)]) weigh(assertion, stated, target, verdict);
  verdict.added = [...new Set(verdict.added)];
  return verdict;
}

/** Outside the world: the prompt as it was typed, then words that say nothing about it. */
export function judgeOutside(prompt: string, answer: string): { verbatim: boolean; invented: string[] } {
  const bare = prompt.replace(/[.!?\s]+$/u, '');
  if (!answer.startsWith(bare)) return { verbatim: false, invented: [] };
  const rest = answer.slice(answer.startsWith(prompt) ? prompt.length : bare.length);
  if (/^[\p{L}\p{N}]/u.test(rest)) return { verbatim: false, invented: [] };
  return {
    verbatim: true,
    invented: assertionsIn(rest).flatMap(({ slot, value }) => (slot === 'quality' ? [] : [value])),
  };
}

/** The prompt's words found in the answer in their order; what stands between them, and what follows. */
function align(prompt: string, answer: string) {
  const bare = prompt.replace(/[.!?\s]+$/u, '');
  if (
    answer.toLowerCase().startsWith(bare.toLowerCase()) &&
    !/^[\p{L}\p{N}]/u.test(answer.slice(bare.length))
  )
    return { lost: [], inserted: [], rest: answer.slice(bare.length) };
  const wanted = tokensOf(prompt);
  const got = tokensOf(answer);
  const inserted: Array<{ word: string; noun: string | undefined }> = [];
  const lost: string[] = [];
  let at = 0;
  for (const { word } of wanted) {
    const found = got.findIndex((each, i) => i >= at && canonical(each.word) === canonical(word));
    if (found < 0 || (droppable.has(word) && found > at)) {
      if (!droppable.has(word)) lost.push(word);
      continue;
    }
    for (const extra of got.slice(at, found))
      if (!droppable.has(extra.word)) inserted.push({ word: extra.word, noun: nextShape(got.slice(found)) });
    at = found + 1;
  }
  return { lost, inserted, rest: answer.slice(got[at - 1]?.end ?? 0) };
}

const nextShape = (tokens: readonly Token[]) =>
  tokens.map(({ word }) => canonical(word)).find((word) => Object.hasOwn(shapeWords, word));

const landSlots = ['sky', 'light', 'clouds', 'ground'];
const isTravelling = (motion: string | undefined) =>
  ['left', 'right', 'up', 'down', 'orbit'].includes(motion ?? '');
const isScene = ({ ground, sky }: Stated) => ground !== undefined || sky !== undefined;

function openSlots(stated: Stated, target: Target): Set<string> {
  const { objects, background, motion, speed, sky, ground } = stated;
  const open = new Set<string>();
  const changesSize = motion === 'grow' || motion === 'shrink';
  const kinds = new Map(objects.map((each) => [`${each.colour} ${each.shape}`, each]));
  for (const [name, { size }] of kinds) if (size === undefined && !changesSize) open.add(`size of ${name}`);
  if (objects.length === 1 && objects[0]?.place === undefined && !isTravelling(motion)) open.add('place');
  if (isScene(stated)) {
    if (sky === undefined) open.add('sky');
    open.add('light').add('clouds');
    if (ground === undefined) open.add('ground');
  } else if (background === undefined) open.add('background');
  if (target === 'video' && motion !== undefined && motion !== 'still' && speed === undefined)
    open.add('speed');
  return open;
}

/** One thing an answer says beside the prompt: fits, contradicts, or is said already. */
function weigh(
  { slot, value, subject, all }: Assertion,
  stated: Stated,
  target: Target,
  verdict: AnswerVerdict,
): void {
  const { objects, background, motion, relation } = stated;
  const against = (what = `${slot} ${value}`) => void verdict.contradicted.push(what);
  const fits = (what: string = slot) => void verdict.added.push(what);
  switch (slot) {
    case 'quality':
      return;
    case 'finish':
      verdict.finish += 1;
      return;
    case 'size':
    case 'colour': {
      const about = objects.filter(({ shape }) => subject === undefined || shape === subject);
      if (about.length === 0) return void verdict.invented.push(`${value} ${subject ?? ''}`.trim());
      for (const each of about) {
        const given = slot === 'size' ? each.size : each.colour;
        if (given === undefined) fits(`${slot} of ${each.colour} ${each.shape}`);
        else if (given !== value) against(`${slot} ${value}`);
      }
      return;
    }
    case 'place': {
      if (
        objects.length > 1 &&
        objects.every(({ colour, shape }) => `${colour} ${shape}` === kindOf(objects[0]))
      )
        return;
      if (objects.length > 1)
        return relation !== undefined || subject === undefined || all === true ? against() : fits();
      const given = objects[0]?.place;
      if (given !== undefined && given !== value) return against();
      if (given === undefined && !isTravelling(motion) && objects.length === 1) fits();
      return;
    }
    case 'background':
      if (isScene(stated) || objects.some(({ colour }) => colour === value)) return against();
      if (background === undefined) fits();
      else if (background !== value) against();
      return;
    case 'sky':
    case 'ground': {
      const given = stated[slot];
      if (background !== undefined || (given !== undefined && given !== value)) return against();
      if (given === undefined) fits();
      return;
    }
    case 'light':
      if (background !== undefined || (value === 'moon') !== isNight(stated, value)) return against();
      return fits();
    case 'motion':
      if (target === 'image' || (motion !== undefined && motion !== value)) return against();
      if (motion === undefined) fits();
      return;
    case 'speed':
      if (target === 'image' || motion === 'still') return against();
      if (stated.speed === undefined) fits();
      else if (stated.speed !== value) against();
      return;
    case 'unknown':
      return void verdict.invented.push(value);
    default:
      if (landSlots.includes(slot) && background !== undefined) return against();
      return fits();
  }
}

const kindOf = (object: Stated['objects'][number] | undefined) =>
  `${object?.colour ?? ''} ${object?.shape ?? ''}`;

/** Where no time of day is stated, both lights are free. */
function isNight({ sky }: Stated, light: string): boolean {
  return sky === undefined ? light === 'moon' : sky === 'night';
}
