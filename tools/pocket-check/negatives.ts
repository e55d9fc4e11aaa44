import type { Painter } from './draw.js';
import { backgroundOf, blobsOf, classify } from './picture.js';

export interface NegativeCase {
  prompt: string;
  colour: string;
  removed: boolean;
  after: string[];
}

const shapes = ['circle', 'square', 'triangle', 'star', 'heart'];
const places = ['', ' on the left', ' on the right', ' at the top', ' at the bottom', ' in the centre'];
const backgrounds = ['', ' on a white background', ' on a black background'];

/** Prompts that leave the object's colour open. */
export function openPrompts(count: number): string[] {
  return Array.from(
    { length: count },
    (_, i) =>
      `a ${['', 'small ', 'large '][i % 3]}${shapes[i % 5]}${places[Math.floor(i / 5) % 6]}${backgrounds[Math.floor(i / 15) % 3]}`,
  );
}

/**
 * Draws a prompt without a colour; then again with the colour that came as its negative prompt. Null when no
 * object came.
 */
export async function measureNegative(
  painter: Painter,
  prompt: string,
  seed: number,
): Promise<NegativeCase | null> {
  const see = async (negativePrompt: string | null) => {
    const picture = await painter.draw({ prompt, negativePrompt, seed });
    const classes = classify(picture);
    const background = backgroundOf(classes, picture.width, picture.height);
    return {
      background,
      colours: blobsOf(classes, picture.width, picture.height, background).map(({ colour }) => colour),
    };
  };
  const plain = await see(null);
  const [colour] = plain.colours;
  if (colour === undefined) return null;
  const after = await see(colour);
  // gone means: no object of this colour, and the colour has not moved into the background
  const left = [...after.colours, ...(after.background === plain.background ? [] : [after.background])];
  return { prompt, colour, removed: !left.includes(colour), after: [after.background, ...after.colours] };
}
