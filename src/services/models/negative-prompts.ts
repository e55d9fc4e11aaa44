import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { SdxlSettings } from './model-folders.js';

interface NegativePrompt {
  /** Null: the model's own rule for no negative prompt (zeros); `''`: the empty text is encoded. */
  text: string | null;
  /** `automatic`, or `none` when this model or setting does without. */
  source: 'automatic' | 'none';
  scene: Scene | null;
}

interface NegativePromptOptions {
  /** Folder with `common.txt`, `none.txt`, `single.txt`, `several.txt`, `subjects.json`. */
  folder: string;
  /** False: never without the job asking. */
  enabled: boolean;
  model: { [K in 'autoNegative' | 'withoutNegative']?: SdxlSettings[K] | undefined };
}

/**
 * Negative prompts for jobs that bring none, by scene. Texts and word lists are files, read once; a model
 * folder may replace or switch them off, because words a model never learnt push its pictures anywhere.
 */
export async function createNegativePrompts({ folder, enabled, model }: NegativePromptOptions) {
  const read = async (name: string) => phrases(await readFile(path.join(folder, name), 'utf8'));
  const common = await read('common.txt');
  const texts: Record<Scene, string> = {
    none: [...common, ...(await read('none.txt'))].join(', '),
    single: [...common, ...(await read('single.txt'))].join(', '),
    several: [...common, ...(await read('several.txt'))].join(', '),
    ...(typeof model.autoNegative === 'object' ? model.autoNegative : {}),
  };
  const detectScene = createSceneDetector(
    JSON.parse(await readFile(path.join(folder, 'subjects.json'), 'utf8')) as SubjectLists,
  );
  const without: NegativePrompt = {
    text: model.withoutNegative === 'empty' ? '' : null,
    source: 'none',
    scene: null,
  };

  return {
    forPrompt(prompt: string): NegativePrompt {
      if (!enabled || model.autoNegative === false) return without;
      const scene = detectScene(prompt);
      return { text: texts[scene], source: 'automatic', scene };
    },
  };
}
export type NegativePrompts = Awaited<ReturnType<typeof createNegativePrompts>>;

/**
 * The text every WAN job is guided away from, null for none. Upstream joins its phrases with full-width
 * commas.
 */
export async function readWanNegative({
  folder,
  enabled,
  autoNegative = true,
}: {
  folder: string;
  enabled: boolean;
  autoNegative?: boolean | string | undefined;
}): Promise<string | null> {
  if (!enabled || autoNegative === false) return null;
  return typeof autoNegative === 'string'
    ? autoNegative
    : phrases(await readFile(path.join(folder, 'wan.txt'), 'utf8')).join('，');
}

function phrases(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join(',')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}

/** Word lists of the detector, from `prompts/negative/subjects.json`. */
export interface SubjectLists {
  people: string[];
  animals: string[];
  things: string[];
  /** plural → singular */
  irregularPlurals: Record<string, string>;
  sameInPlural: string[];
  groups: string[];
  /**
   * Group words that mean several subjects only with `of` or after an article: `a pair of cats`, `the
   * family`.
   */
  groupNeedsOf: string[];
  manyWords: string[];
  oneWords: string[];
  soloWords: string[];
  togetherWords: string[];
  /**
   * Words that stand between two different subjects: `a cat beside a dog`. A comma alone repeats or describes
   * the same one.
   */
  connectors: string[];
  negations: string[];
  /** Phrases whose words are not what they seem: `town square`. */
  fixedPhrases: string[];
}

export type Scene = 'none' | 'single' | 'several';

/** Decides whether a prompt shows no subject, one, or several, by counting mentions and what joins them. */
export function createSceneDetector(lists: SubjectLists) {
  const singular = new Set([...lists.people, ...lists.animals, ...lists.things]);
  const plural = new Set([...[...singular].flatMap(pluralsOf), ...Object.keys(lists.irregularPlurals)]);
  const sets = {
    same: new Set(lists.sameInPlural),
    groups: new Set(lists.groups),
    needOf: new Set(lists.groupNeedsOf),
    many: new Set(lists.manyWords),
    one: new Set(lists.oneWords),
    solo: new Set(lists.soloWords),
    together: new Set(lists.togetherWords),
    connectors: new Set(lists.connectors),
    negations: new Set(lists.negations),
  };
  const fixed = lists.fixedPhrases.map(
    (phrase) =>
      new RegExp(
        `(?<![\\p{L}\\p{N}])${phrase.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(?![\\p{L}\\p{N}])`,
        'gu',
      ),
  );

  return function detectScene(prompt: string): Scene {
    let text = prompt.toLowerCase().replace(/’/g, "'");
    for (const pattern of fixed) text = text.replace(pattern, ' ');
    // Tag style of picture boards: `1girl`, `2boys`.
    text = text.replace(/\b(\d+)(girl|boy|person|people|man|woman|other)s?\b/g, '$1 $2');
    const words = text.match(/[\p{L}\p{N}][\p{L}\p{N}'-]*|[&,.;:!?]/gu) ?? [];
    let subjects = 0;
    let joined = true;
    let together = false;
    let solo = false;
    for (const [index, word] of words.entries()) {
      if (/^[.;!?]$/.test(word)) {
        joined = false;
        continue;
      }
      if (sets.connectors.has(word)) joined = true;
      if (sets.together.has(word)) together = true;
      if (sets.solo.has(word)) solo = true;
      if (word === 'each' && words[index + 1] === 'other') together = true;
      const count = countOf(words, index);
      if (count === 0) continue;
      if (count >= 2) subjects += count;
      else if (subjects === 0 || joined) subjects += 1;
      joined = false;
    }
    if (solo && subjects <= 2) return 'single';
    if (subjects >= 2 || (subjects === 1 && together)) return 'several';
    return subjects === 1 ? 'single' : 'none';
  };

  /** Subjects that the word at this place stands for: 0, 1, or 2 for "more than one". */
  function countOf(words: string[], index: number): 0 | 1 | 2 {
    const word = (words[index] ?? '').replace(/'s$/, '');
    const isPossessive = (words[index] ?? '').endsWith("'s");
    const before = words.slice(Math.max(0, index - 4), index);
    const sincePause = before.slice(
      before.findLastIndex((each) => /^[,.;:!?&]$/.test(each) || sets.connectors.has(each)) + 1,
    );
    if (sincePause.some((each) => sets.negations.has(each))) return 0;
    if (sets.groups.has(word)) {
      if (!sets.needOf.has(word)) return 2;
      return words[index + 1] === 'of' || sincePause.some((each) => sets.one.has(each)) ? 2 : 0;
    }
    const known = singular.has(word);
    if (plural.has(word) && !known) return isPossessive ? 1 : 2;
    if (!known) return 0;
    // The next word names the subject itself: `police officer`, `cat statue`.
    const next = words[index + 1] ?? '';
    if (!isPossessive && (singular.has(next) || (plural.has(next) && !sets.groups.has(next)))) return 0;
    const many = sincePause.some(
      (each) => sets.many.has(each) || (/^\d+$/.test(each) && Number(each) >= 2 && Number(each) <= 1000),
    );
    return many ? 2 : 1;
  }
}

function pluralsOf(word: string): string[] {
  if (/(?:s|x|z|ch|sh)$/.test(word)) return [`${word}es`];
  if (/[^aeiou]y$/.test(word)) return [`${word.slice(0, -1)}ies`];
  if (/(?:hero|potato|tomato|buffalo)$/.test(word)) return [`${word}es`, `${word}s`];
  return [`${word}s`];
}
