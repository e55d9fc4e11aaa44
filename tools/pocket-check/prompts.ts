/**
 * Judges what the pocket Qwen makes of a held-out prompt, from the texts alone. The same rules as
 * tools/pocket/qwen/check.py, which scores on the training device.
 */
export interface HeldOutPrompt {
  kind: 'world' | 'outside' | 'followup';
  /**
   * What lies outside the worlds (`long`, `list`, …), or which of both the first prompt of a conversation is
   * of.
   */
  group?: string;
  mode: 'base' | 'chat';
  target: 'image' | 'video';
  prompt: string;
  /** Follow-ups: prompt and answer that came before. */
  history?: [prompt: string, answer: string];
  /** Follow-ups: the answer in which everything else is as it was. */
  expected?: string;
}

export interface Verdict {
  kept: boolean;
  /** Added details that the models of this target are trained to draw. */
  details: number;
}

const colours = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'white', 'black'];
const sides = ['on the left', 'on the right', 'in the centre'];
const both = [
  ...['', 'small and ', 'large and '].flatMap((size) =>
    [...sides, 'at the top', 'at the bottom'].map((place) => size + place),
  ),
  ...colours.map((colour) => `plain ${colour} background`),
  ...['sun', 'moon'].flatMap((light) => sides.map((place) => `the ${light} ${place}`)),
  'white clouds',
  'green hills',
  'the sea',
];
/**
 * All details, in the words of the captions that the pocket picture model and the pocket video model are
 * trained on.
 */
export const drawable = {
  image: [
    ...both,
    'a blue sky',
    'a clear day',
    'a sunset sky',
    'a night sky',
    'clouds',
    'hills',
    'trees',
    'a house',
  ],
  video: [
    ...both,
    'day sky',
    'clear day sky',
    'bright day sky',
    'sunset sky',
    'orange sunset sky',
    'warm sunset sky',
    'night sky',
    'dark night sky',
    'clear night sky',
    'a few clouds',
    'rolling hills',
    'a calm sea',
    'moving to the left',
    'moving to the right',
    'moving up',
    'moving down',
    'growing',
    'shrinking',
    'orbiting',
    'blinking',
    'resting',
    'slowly',
    'quickly',
    'day turns to night',
    'day slowly turns to night',
    'the sky turns from day to night',
  ],
};
const details = { image: new Set(drawable.image), video: new Set(drawable.video) };
const quality = new Set(['best quality', 'clean shapes', 'high quality', 'highly detailed', 'sharp']);
const insertable = new Set([...colours, 'small', 'large']);

/**
 * `world`: all words of the prompt in their order, nothing but sizes and colours put in, nothing but details
 * behind them. `outside`: the prompt, character for character, at the beginning. `followup`: the expected
 * answer, whatever its sky is called.
 */
export function judgePrompt(item: HeldOutPrompt, answer: string): Verdict {
  if (item.kind === 'followup') return { kept: sameSky(answer) === sameSky(item.expected ?? ''), details: 2 };
  if (item.kind === 'outside')
    return {
      kept: answer.startsWith(item.prompt),
      details: piecesOf(answer.slice(item.prompt.length)).filter((piece) => details[item.target].has(piece))
        .length,
    };
  return judgeWorld(item, answer);
}

function judgeWorld({ prompt, target }: HeldOutPrompt, answer: string): Verdict {
  const said = wordsOf(prompt);
  const got = wordsOf(answer);
  let at = 0;
  let added = 0;
  for (const word of said) {
    while (at < got.length && got[at] !== word && !(isArticle(word) && isArticle(got[at]))) {
      if (!insertable.has(got[at] ?? '')) return { kept: false, details: 0 };
      added += 1;
      at += 1;
    }
    if (at === got.length) return { kept: false, details: 0 };
    at += 1;
  }
  const rest = got.slice(at).join(' ');
  const pieces = piecesOf(rest);
  added += pieces.filter((piece) => details[target].has(piece)).length;
  const foreign = pieces.some((piece) => !details[target].has(piece) && !quality.has(piece));
  return {
    kept: !foreign && !(rest.includes('background') && prompt.includes('background')),
    details: added,
  };
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]/gu) ?? [];
}

function isArticle(word: string | undefined): boolean {
  return word === 'a' || word === 'an';
}

function piecesOf(rest: string): string[] {
  return rest
    .toLowerCase()
    .replace(/^[\s,.]+/, '')
    .split(',')
    .map((piece) => piece.trim())
    .filter((piece) => piece !== '');
}

function sameSky(text: string): string {
  return text
    .replace(/\b(a blue sky|a clear day|(clear |bright )?day sky)/gi, 'day sky')
    .replace(
      /\b(a |clear |dark |orange |warm )?(sunset|night) sky/gi,
      (_, _adjective, when: string) => `${when.toLowerCase()} sky`,
    );
}
