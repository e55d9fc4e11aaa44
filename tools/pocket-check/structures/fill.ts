import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { projectRoot } from '../../../src/lib/project.js';
import { randomFrom } from '../scenes.js';
import * as words from './words.js';

/** What a prompt states; what it does not state is absent. */
export interface Stated {
  objects: Array<{ colour: string; shape: string; size?: string; place?: string }>;
  background?: string;
  relation?: string;
  motion?: string;
  speed?: 'slow' | 'fast';
  sky?: 'day' | 'sunset' | 'night';
  ground?: 'hills' | 'sea';
  /** Words outside the world, which must be kept as they are. */
  unknown?: string[];
}
export type StructureKind = 'one' | 'two' | 'several' | 'clip' | 'scene' | 'outside';
export interface StructuredPrompt extends Stated {
  kind: StructureKind;
  structure: string;
  prompt: string;
}

export async function readStructures(): Promise<Array<{ kind: StructureKind; structure: string }>> {
  const text = await readFile(path.join(projectRoot(), 'test/fixtures/pocket-structures.txt'), 'utf8');
  let kind: StructureKind = 'one';
  return text.split('\n').flatMap((line) => {
    const section = /^\[(\w+)\]$/.exec(line)?.[1];
    if (section !== undefined) kind = section as StructureKind;
    return section !== undefined || line === '' || line.startsWith('#') ? [] : [{ kind, structure: line }];
  });
}

/**
 * `count` prompts of these kinds, the structures in turn; the same ones from the same seed. `isFree` leaves
 * out pairs of colour and shape.
 */
export async function fillStructures(
  kinds: readonly StructureKind[],
  count: number,
  seed: number,
  isFree: (colour: string, shape: string) => boolean = () => true,
): Promise<StructuredPrompt[]> {
  const structures = (await readStructures()).filter(({ kind }) => kinds.includes(kind));
  const random = randomFrom(seed);
  const seen = new Set<string>();
  const prompts: StructuredPrompt[] = [];
  for (let turn = 0; prompts.length < count; turn += 1) {
    const { kind, structure } = structures[turn % structures.length] as (typeof structures)[number];
    const filled = fillOne(structure, kind, random, isFree);
    if (seen.has(filled.prompt)) {
      if (turn > 50 * count) throw new Error('these structures have no more prompts');
      continue;
    }
    seen.add(filled.prompt);
    prompts.push({ kind, structure, ...filled });
  }
  return prompts;
}

type Random = ReturnType<typeof randomFrom>;

function fillOne(
  line: string,
  kind: StructureKind,
  random: Random,
  isFree: (colour: string, shape: string) => boolean,
): Stated & { prompt: string } {
  const upper = line.endsWith(' == UPPER');
  const [template = '', first] = line.replace(' == UPPER', '').split(' > ');
  const has = (...slots: string[]) =>
    slots.some((slot) => template.toLowerCase().replaceAll('~', '').includes(`{${slot}}`));
  const colours = Object.keys(words.colourWords);
  const shapes = Object.keys(words.shapeWords);
  // What this prompt means; only what the template names is stated.
  const background = has('b') || has('c') ? random.pick(colours) : 'white';
  const pair = (acceptable: (colour: string, shape: string) => boolean) => {
    for (;;) {
      const [colour, shape] = [random.pick(colours, [background]), random.pick(shapes)];
      if (isFree(colour, shape) && acceptable(colour, shape)) return { colour, shape };
    }
  };
  const object = pair(() => true);
  // "the square is red": a structure that tells things apart by their shapes needs two.
  const byShape = template.split('{s2}').length > 2 || /\{s\} (?:over|and a) \{s2\}/.test(template);
  const second = pair((colour, shape) => shape !== object.shape || (!byShape && colour !== object.colour));
  const ground = random.pick(['hills', 'sea'] as const);
  const sky = random.pick(['day', 'sunset', 'night'] as const);
  const size = random.pick(['small', 'large']);
  const place = random.pick(Object.keys(words.placeWords));
  const count = has('n', 'd') ? random.pick([2, 3, 4, 5]) : 1;
  const moving = Object.keys(words.motionWords).filter((each) => each !== 'still' || !has('v', 'vz'));
  const motion = random.pick(moving);
  const speed = random.pick(['slow', 'fast'] as const);
  const relation = first ?? random.pick(Object.keys(words.relationWords));
  const unknown: string[] = [];
  const outside = (list: readonly string[]) => {
    const word = random.pick(list, unknown);
    unknown.push(word);
    return word;
  };
  // Mostly the plainest word for a thing.
  const say = (list: Readonly<Record<string, readonly string[]>>, meaning: string) => {
    const all = list[meaning] ?? [meaning];
    return random.next() < 0.6 ? (all[0] as string) : random.pick(all);
  };
  const form = random.pick(words.motionWords[motion] ?? []);
  const plural = (word: string) => words.pluralShapes[word] ?? `${word}s`;
  const things = new Map<string, string>();
  const remembered = (slot: string, make: () => string) => {
    if (!things.has(slot)) things.set(slot, make());
    return things.get(slot) as string;
  };
  const render: Readonly<Record<string, () => string>> = {
    c: () => say(words.colourWords, object.colour),
    'c~': () => say(words.mistypedColours, object.colour),
    s: () => say(words.shapeWords, object.shape),
    's~': () => say(words.mistypedShapes, object.shape),
    ss: () => plural(say(words.shapeWords, object.shape)),
    c2: () => say(words.colourWords, second.colour),
    'c2~': () => say(words.mistypedColours, second.colour),
    s2: () => say(words.shapeWords, second.shape),
    's2~': () => say(words.mistypedShapes, second.shape),
    b: () => say(words.colourWords, background),
    z: () => say(words.sizeWords, size),
    p: () => say(words.placeWords, place),
    side: () => say(words.sideWords, place),
    rel: () => say(words.relationWords, relation),
    n: () => words.countWords[count - 1] as string,
    d: () => String(count),
    m: () => form[0],
    ms: () => form[1],
    mi: () => form[2],
    v: () => say(words.speedWords, speed),
    vz: () => say(words.paceWords, speed),
    t: () => say(words.timeWords, sky),
    g: () => say(words.landWords, ground),
    x: () => outside(words.things),
    x2: () => outside(words.things),
    w: () => outside(words.adjectives),
  };
  let prompt = template
    .replace(/\{([a-z]+2?~?)\}/gi, (_, slot: string) => {
      const name = slot.toLowerCase();
      return remembered(name, render[name] ?? (() => `{${slot}}`));
    })
    .replace(/\b([Aa]) (?=[aeiou])/g, (_, article: string) => `${article}n `)
    .replace(/\b([Aa])n (?=[^aeiou\s])/g, (_, article: string) => `${article} `);
  if (upper) prompt = prompt.toUpperCase();
  if (/^\p{Lu}/u.test(template) && !upper) prompt = prompt.charAt(0).toUpperCase() + prompt.slice(1);

  if (kind === 'outside') {
    const own = has('c2') ? [things.get('c'), things.get('c2')] : [];
    return { prompt, objects: [], unknown: [...unknown, ...own.flatMap((word) => word ?? [])] };
  }
  const one = { ...object, ...(has('z') ? { size } : {}), ...(has('p', 'side') ? { place } : {}) };
  const objects = !has('s', 'ss')
    ? []
    : has('s2')
      ? [one, second]
      : Array.from({ length: count }, () => ({ ...one }));
  return {
    prompt,
    objects,
    ...(has('b') ? { background } : {}),
    ...(has('rel') || first !== undefined ? { relation } : {}),
    ...(has('m', 'ms', 'mi') ? { motion } : {}),
    ...(has('v', 'vz') ? { speed } : {}),
    ...(has('t') ? { sky } : {}),
    ...(has('g') ? { ground } : {}),
    ...(unknown.length > 0 ? { unknown } : {}),
  };
}
