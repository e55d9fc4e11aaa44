import { useState } from 'preact/hooks';
import type { Capabilities } from '../api.js';
import { Field } from '../ui.js';
import { change, type Draft, isSdxl } from './draft.js';

const shapes = [
  { name: 'Square', ratio: 1 },
  { name: 'Portrait 3:4', ratio: 3 / 4 },
  { name: 'Landscape 4:3', ratio: 4 / 3 },
  { name: 'Tall 9:16', ratio: 9 / 16 },
  { name: 'Wide 16:9', ratio: 16 / 9 },
];
const own = 'own';
const model = 'model';

/** What the model was made for, a shape of about as many pixels, or a size in numbers. */
export function SizeField({
  draft: { size, type },
  limits,
  native,
}: {
  draft: Draft;
  limits: Capabilities['limits'] | undefined;
  native: { width: number; height: number } | null;
}) {
  const step = isSdxl(type) ? (limits?.width_pixels.multiple_of ?? 8) : 16;
  const base = native ?? (isSdxl(type) ? { width: 1024, height: 1024 } : { width: 832, height: 480 });
  const presets = shapes.map(({ name, ratio }) => {
    const pixels = base.width * base.height;
    const round = (value: number) => Math.max(64, Math.round(value / step) * step);
    return { name, width: round(Math.sqrt(pixels * ratio)), height: round(Math.sqrt(pixels / ratio)) };
  });
  const isPreset = (one: { width: number; height: number }) =>
    one.width === size?.width && one.height === size.height;
  const [custom, setCustom] = useState(size !== null && !presets.some(isPreset));
  const value = size === null ? model : custom ? own : `${size.width}x${size.height}`;

  const choose = (chosen: string) => {
    setCustom(chosen === own);
    if (chosen === model) change({ size: null });
    else if (chosen === own) change({ size: size ?? base });
    else {
      const [width = 0, height = 0] = chosen.split('x').map(Number);
      change({ size: { width, height } });
    }
  };

  return (
    <>
      <Field label="Size">
        {(id) => (
          <select id={id} value={value} onChange={({ currentTarget }) => choose(currentTarget.value)}>
            <option value={model}>
              {native === null ? "The model's own" : `Own, ${native.width} × ${native.height}`}
            </option>
            {presets.map((one) => (
              <option key={one.name} value={`${one.width}x${one.height}`}>
                {one.name}, {one.width} × {one.height}
              </option>
            ))}
            <option value={own}>In numbers…</option>
          </select>
        )}
      </Field>
      {custom && size !== null && (
        <div class="pair numbers-pair">
          {(['width', 'height'] as const).map((side) => (
            <Field key={side} label={side === 'width' ? 'Width' : 'Height'}>
              {(id) => (
                <input
                  id={id}
                  class="numbers"
                  type="number"
                  min={64}
                  max={2048}
                  step={step}
                  value={size[side]}
                  onChange={({ currentTarget }) =>
                    change({ size: { ...size, [side]: Number(currentTarget.value) } })
                  }
                />
              )}
            </Field>
          ))}
        </div>
      )}
    </>
  );
}
