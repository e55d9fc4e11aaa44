import type { SdxlGenerateParams } from '../../src/inference/generation.js';
import { order, type HeldOut } from './judge.js';
import type { Painter } from './draw.js';
import { backgroundOf, blobsOf, classify, type Pixels } from './picture.js';

/** Where a weight is written: in the prompt's text, or in the job's `compel_weights`. */
export type WeightRoute = 'prompt' | 'compel_weights';

export interface WeightCase {
  prompt: string;
  /**
   * The two objects' areas in pixels, in the order the prompt names them; null when the picture does not show
   * both.
   */
  plain: [number, number] | null;
  /** Index of the weighted object. */
  target: 0 | 1;
  up: [number, number] | null;
  down: [number, number] | null;
}

/** Both objects' areas, matched by their colours. */
export function areas(item: HeldOut, picture: Pixels): [number, number] | null {
  const classes = classify(picture);
  const blobs = blobsOf(
    classes,
    picture.width,
    picture.height,
    backgroundOf(classes, picture.width, picture.height),
  );
  const ordered = order(blobs, item);
  const found = item.objects.map(({ colour }, i) =>
    item.objects[0]?.colour === item.objects[1]?.colour
      ? ordered[i]
      : blobs.find((blob) => blob.colour === colour),
  );
  return found[0] === undefined || found[1] === undefined ? null : [found[0].area, found[1].area];
}

/**
 * The two objects' phrases, `red star` and `blue box` of `a red star above a blue box on a white background`,
 * and where each begins.
 */
function phrasesOf(prompt: string): Array<{ text: string; at: number }> {
  const found =
    /^a (\w+ \w+) (?:above|over|below|under|beneath|(?:to the )?(?:left|right) of) a (\w+ \w+)/du.exec(
      prompt,
    );
  return [1, 2].map((i) => {
    const text = found?.[i];
    const at = found?.indices?.[i]?.[0];
    if (text === undefined || at === undefined) throw new Error(`not a prompt with two objects: ${prompt}`);
    return { text, at };
  });
}

/** `a (red star:1.4) above a blue box`, or the prompt as it is with the phrase beside it. */
function weighted(
  prompt: string,
  { text, at }: { text: string; at: number },
  weight: number,
  route: WeightRoute,
): Pick<SdxlGenerateParams, 'prompt' | 'weights'> {
  return route === 'prompt'
    ? { prompt: `${prompt.slice(0, at)}(${text}:${weight})${prompt.slice(at + text.length)}`, weights: [] }
    : { prompt, weights: [{ text, weight }] };
}

/**
 * Draws a prompt with two objects plain, with one object's phrase (or its noun alone) at 1.4, and at 0.7; one
 * seed.
 */
export async function measureWeight(
  painter: Painter,
  item: HeldOut,
  index: number,
  route: WeightRoute,
): Promise<WeightCase> {
  const phrases = phrasesOf(item.prompt);
  const target = index % 2 === 0 ? 0 : 1;
  const phrase = phrases[target] as { text: string; at: number };
  const [other] = phrases.filter((each) => each !== phrase);
  const noun = phrase.text.replace(/^\w+ /u, '');
  // a noun that both objects have names neither in `compel_weights`
  const nounAlone = index % 4 >= 2 && other?.text.endsWith(` ${noun}`) !== true;
  const words = nounAlone ? { text: noun, at: phrase.at + phrase.text.length - noun.length } : phrase;
  const see = async (params: Pick<SdxlGenerateParams, 'prompt' | 'weights'>) =>
    areas(item, await painter.draw({ ...params, seed: 7000 + index }));
  return {
    prompt: item.prompt,
    target,
    plain: await see({ prompt: item.prompt, weights: [] }),
    up: await see(weighted(item.prompt, words, 1.4, route)),
    down: await see(weighted(item.prompt, words, 0.7, route)),
  };
}

/**
 * Shares over all cases; one whose plain picture lacks an object counts as failed, an object that vanished as
 * area 0.
 */
export function summarise(cases: readonly WeightCase[]) {
  const judged = cases.filter(({ plain }) => plain !== null) as Array<
    WeightCase & { plain: [number, number] }
  >;
  const area = (seen: [number, number] | null, i: number) => seen?.[i] ?? 0;
  const share = (holds: (c: (typeof judged)[number]) => boolean) =>
    judged.filter(holds).length / cases.length;
  const other = (pick: 'up' | 'down') => {
    const [before, after] = judged.reduce(
      ([b, a], c) => [b + c.plain[1 - c.target]!, a + area(c[pick], 1 - c.target)],
      [0, 0] as [number, number],
    );
    return after / before - 1;
  };
  const ratio = (pick: 'up' | 'down') =>
    judged.reduce((sum, c) => sum + area(c[pick], c.target) / c.plain[c.target], 0) / judged.length;
  return {
    enlarged: share((c) => area(c.up, c.target) > c.plain[c.target]),
    shrunk: share((c) => area(c.down, c.target) < c.plain[c.target] && area(c.down, c.target) > 0),
    otherUp: other('up'),
    otherDown: other('down'),
    ratioUp: ratio('up'),
    ratioDown: ratio('down'),
  };
}
