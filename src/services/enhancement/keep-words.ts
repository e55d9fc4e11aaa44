/**
 * Which words of a prompt an answer lost. Small models mangle names they do not know and large ones drop a
 * subject now and then; a prompt that lost what its author asked for is worse than the short one. A word
 * survives in another form ("walk" in "walking", "cities" for "city"), but not in another order of its
 * letters.
 */
export function lostWords(prompt: string, answer: string): string[] {
  const present = wordsOf(answer);
  const whole = normalise(answer);
  return [...new Set(wordsOf(prompt))].filter((word) => {
    if (functionWords.has(word)) return false;
    // Scripts without spaces have no words to compare: their runs must be there as they are, or in pieces of
    // two.
    if (!spaced.test(word))
      return !(whole.includes(word) || pairsOf(word).every((pair) => whole.includes(pair)));
    return !present.some((other) => sameWord(word, other));
  });
}

/** Content words of a prompt: what `lostWords` looks for. */
export function contentWords(prompt: string): string[] {
  return [...new Set(wordsOf(prompt))].filter((word) => !functionWords.has(word));
}

/** Scripts that put spaces between words. */
const spacedScripts = 'Latin Cyrillic Greek Arabic Hebrew Armenian Georgian Devanagari Hangul'.split(' ');
const spaced = new RegExp(
  `^[${spacedScripts.map((script) => `\\p{Script=${script}}`).join('')}\\p{M}\\p{N}'’]+$`,
  'u',
);

/** Words, and every other sign that is no punctuation (an emoji) on its own. */
function wordsOf(text: string): string[] {
  return (
    normalise(text).match(/[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}]+)*|[\p{Extended_Pictographic}]/gu) ?? []
  );
}

function normalise(text: string): string {
  return text.normalize('NFKC').toLowerCase();
}

function pairsOf(word: string): string[] {
  const signs = [...word];
  return signs.length < 2 ? [word] : signs.slice(1).map((sign, index) => `${signs[index] as string}${sign}`);
}

/** Endings of inflection that may differ; stems shorter than this many letters must be equal. */
const shortestStem = 3;
const endings = [
  '',
  's',
  'es',
  'ed',
  'd',
  'er',
  'r',
  'ing',
  'ly',
  'y',
  'ies',
  'ied',
  "'s",
  '’s',
  'en',
  'n',
  'e',
  'est',
];

function sameWord(one: string, other: string): boolean {
  if (one === other) return true;
  if (numbers.get(one) === other || numbers.get(other) === one) return true;
  let same = 0;
  while (same < one.length && same < other.length && one[same] === other[same]) same += 1;
  if (same < shortestStem) return false;
  // "running" and "run": a doubled letter belongs to the ending.
  return [same, same - 1].some(
    (stem) =>
      stem >= shortestStem &&
      isEnding(one.slice(stem), one[stem - 1]) &&
      isEnding(other.slice(stem), other[stem - 1]),
  );
}

function isEnding(rest: string, before: string | undefined): boolean {
  return endings.includes(rest) || (rest[0] === before && endings.includes(rest.slice(1)));
}

const numbers = new Map(
  'zero one two three four five six seven eight nine ten eleven twelve'
    .split(' ')
    .map((word, value) => [String(value), word]),
);

/**
 * Words an answer may lose without losing anything that could be drawn. English: in other languages every
 * word counts.
 */
const functionWords: ReadonlySet<string> = new Set(
  `a an the this that these those some any and or but nor so yet of in on at to from by with without
    into onto upon for as is are was were be been being am do does did have has had having will would
    can could shall should may might must it its it's he she they them their his her him i me my we us
    our you your there here then than very really just also too please make show draw create generate
    paint render image picture photo video clip scene of where which who whom whose while when what how
    if not no want like need give let via per about over-all et etc`.split(/\s+/),
);
