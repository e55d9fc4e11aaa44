import { ImageUp, X } from 'lucide';
import { useEffect, useRef, useState } from 'preact/hooks';
import { api, ownUserId, reason } from '../api.js';
import { isVideoType } from '../format.js';
import { Button, Choice, Field, Icon, Notice } from '../ui.js';
import { change, type Draft, isSdxl, type Reference } from './draft.js';

/** A picture to go by: dropped, pasted, chosen, or taken from the gallery. */
export function ReferenceField({ draft }: { draft: Draft }) {
  const { reference, type } = draft;
  const [problem, setProblem] = useState('');
  const [over, setOver] = useState(false);
  const [busy, setBusy] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const role: Reference['role'] = isVideoType(type) ? 'first' : 'picture';

  async function take(file: File | undefined): Promise<void> {
    if (file === undefined) return;
    setBusy(true);
    setProblem('');
    try {
      const userId = ownUserId();
      const stored = await api.uploadReference(file, { userId });
      change({ reference: { source: stored.reference, role, shown: await smallCopy(file), userId } });
    } catch (error) {
      setProblem(reason(error));
    } finally {
      setBusy(false);
    }
  }

  useEffect(() => {
    const onPaste = ({ clipboardData }: ClipboardEvent) => {
      const file = [...(clipboardData?.files ?? [])].find((one) => one.type.startsWith('image/'));
      if (file !== undefined) void take(file);
    };
    document.addEventListener('paste', onPaste);
    return () => document.removeEventListener('paste', onPaste);
  }, [role]);

  const place = (to: Reference['role']) => reference && change({ reference: { ...reference, role: to } });
  const drop = {
    onDragOver: (event: DragEvent) => {
      event.preventDefault();
      setOver(true);
    },
    onDragLeave: () => setOver(false),
    onDrop: (event: DragEvent) => {
      event.preventDefault();
      setOver(false);
      void take(event.dataTransfer?.files[0]);
    },
  };

  return (
    <div class="reference" {...drop}>
      {reference === null ? (
        <button
          type="button"
          class={`drop${over ? ' over' : ''}`}
          aria-busy={busy}
          onClick={() => input.current?.click()}
        >
          <Icon of={ImageUp} />
          <span>{busy ? 'Uploading…' : 'Drop, paste or choose a picture'}</span>
        </button>
      ) : (
        <div class="reference-set">
          {reference.shown === '' ? (
            <div class="reference-blank">{reference.source.slice(0, 40)}</div>
          ) : (
            <img src={reference.shown} alt="The reference" />
          )}
          <div class="reference-form">
            {isVideoType(type) && (
              <Choice
                label="Used as"
                value={reference.role}
                onChange={place}
                options={[
                  { value: 'first', label: 'First frame' },
                  { value: 'last', label: 'Last frame' },
                  { value: 'picture', label: 'Look' },
                ]}
              />
            )}
            {isSdxl(type) && (
              <Choice
                label="Take its"
                value={draft.referenceType}
                onChange={(referenceType) => change({ referenceType })}
                options={[
                  { value: 'composition', label: 'Composition' },
                  { value: 'style', label: 'Style' },
                  { value: 'character', label: 'Character' },
                ]}
              />
            )}
            <Field label="Strength" hint={draft.strength.toFixed(2)}>
              {(id) => (
                <input
                  id={id}
                  type="range"
                  min={0.1}
                  max={1}
                  step={0.05}
                  value={draft.strength}
                  onInput={({ currentTarget }) => change({ strength: Number(currentTarget.value) })}
                />
              )}
            </Field>
          </div>
          <Button
            tone="quiet"
            icon={X}
            iconOnly
            label="Remove the reference"
            onClick={() => change({ reference: null })}
          />
        </div>
      )}
      <input
        ref={input}
        class="unseen"
        type="file"
        accept="image/*"
        aria-label="Reference picture"
        tabIndex={-1}
        onChange={({ currentTarget }) => {
          void take(currentTarget.files?.[0]);
          currentTarget.value = '';
        }}
      />
      {problem !== '' && <Notice tone="error">{problem}</Notice>}
    </div>
  );
}

/** A few kilobytes that outlive a reload, whatever was dropped. */
async function smallCopy(file: File): Promise<string> {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) return '';
  const scale = Math.min(1, 160 / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL('image/webp', 0.8);
}
