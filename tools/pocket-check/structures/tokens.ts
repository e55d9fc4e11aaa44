import {
  colourWords,
  countWords,
  mistypedColours,
  mistypedShapes,
  pluralShapes,
  shapeWords,
  sizeWords,
  type Words,
} from './words.js';

export interface Token {
  word: string;
  end: number;
}

export function tokensOf(text: string): Token[] {
  return [...text.toLowerCase().matchAll(/[\p{L}\p{M}\p{N}]+(?:['’-][\p{L}\p{M}\p{N}]+)*/gu)].map(
    ({ 0: word, index }) => ({ word, end: index + word.length }),
  );
}

/** Words that say nothing of the picture; an answer may leave them out. */
export const droppable: ReadonlySet<string> = new Set(
  `a an the please can could would you u i i'd like to get see have want draw make show put it is that and me my
   hey so kinda just with of be there there's here what does look when how about watch possible should`.split(
    /\s+/,
  ),
);

const meanings = new Map<string, string>();
function learn(list: Words, name: (meaning: string) => string = (meaning) => meaning): void {
  for (const [meaning, words] of Object.entries(list))
    for (const word of words) meanings.set(word, name(meaning));
}
for (const list of [colourWords, mistypedColours, shapeWords, mistypedShapes, sizeWords]) learn(list);
for (const [word, meaning] of [...meanings]) meanings.set(pluralShapes[word] ?? `${word}s`, meaning);
learn({ background: ['backdrop', 'backround', 'backgroud', 'bg'], centre: ['center', 'middle'] });
countWords.forEach((word, i) => meanings.set(String(i + 1), word));

/** One word for all that mean the same: "crimson" is red, "sqaure" a square. */
export const canonical = (word: string): string => meanings.get(word) ?? word;
