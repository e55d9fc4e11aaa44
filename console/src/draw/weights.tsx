import { X } from 'lucide';
import { Button } from '../ui.js';

const weighted = /\(([^()]+):(\d+(?:\.\d+)?)\)/g;
const [least, most, usual] = [0.2, 2, 1.3];
/** Words nobody weighs. */
const small = new Set('a an and at by for from in into is it its of on or over the to under with'.split(' '));

interface Weight {
  text: string;
  weight: number;
  start: number;
  end: number;
}

const weightsIn = (prompt: string): Weight[] =>
  [...prompt.matchAll(weighted)].map((match) => ({
    text: match[1] ?? '',
    weight: Number(match[2]),
    start: match.index,
    end: match.index + match[0].length,
  }));

const written = (text: string, weight: number) => (weight === 1 ? text : `(${text}:${weight})`);

/** Sliders for what has a weight in the prompt, and its other words to give one; they write the prompt's own syntax. */
export function Weights({ prompt, onChange }: { prompt: string; onChange: (prompt: string) => void }) {
  const weights = weightsIn(prompt);
  const plain = prompt.replace(weighted, (found) => ' '.repeat(found.length));
  const words = [...plain.matchAll(/[\p{L}\p{N}]+(?:[-'][\p{L}\p{N}]+)*/gu)].filter(
    ([word], index, all) =>
      !small.has(word.toLowerCase()) && all.findIndex(([other]) => other === word) === index,
  );
  const replace = ({ start, end }: Pick<Weight, 'start' | 'end'>, text: string) =>
    onChange(prompt.slice(0, start) + text + prompt.slice(end));

  return (
    <div class="weights">
      {weights.map((one, index) => (
        <div class="weight" key={`${index} ${one.text}`}>
          <label for={`weight-${index}`}>{one.text}</label>
          <input
            id={`weight-${index}`}
            type="range"
            min={least}
            max={most}
            step={0.05}
            value={one.weight}
            onInput={({ currentTarget }) =>
              // At 1 the brackets stay while the slider is held: it would vanish under the hand.
              replace(one, `(${one.text}:${Number(Number(currentTarget.value).toFixed(2))})`)
            }
          />
          <output for={`weight-${index}`}>{one.weight.toFixed(2)}</output>
          <Button
            tone="quiet"
            icon={X}
            iconOnly
            label={`No weight for ${one.text}`}
            onClick={() => replace(one, written(one.text, 1))}
          />
        </div>
      ))}
      {words.length > 0 && (
        <div class="chips">
          {words.slice(0, 16).map((match) => (
            <button
              type="button"
              class="chip"
              key={match[0]}
              title={`Give "${match[0]}" a weight`}
              onClick={() =>
                replace({ start: match.index, end: match.index + match[0].length }, written(match[0], usual))
              }
            >
              {match[0]}
            </button>
          ))}
        </div>
      )}
      {weights.length === 0 && words.length === 0 && (
        <p class="hint">Words of the prompt appear here, to be given more or less weight.</p>
      )}
    </div>
  );
}
