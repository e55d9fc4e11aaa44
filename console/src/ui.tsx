import { type IconNode, Search as SearchIcon } from 'lucide';
import { type ComponentChildren, createElement, type JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';

export function Icon({ of, size = 16 }: { of: IconNode; size?: number }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      stroke-width="1.75"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      {of.map(([tag, attributes], index) => createElement(tag, { ...attributes, key: index }))}
    </svg>
  );
}

type ButtonProps = Omit<JSX.IntrinsicElements['button'], 'icon' | 'size' | 'onClick'> & {
  icon?: IconNode;
  tone?: 'main' | 'plain' | 'quiet' | 'danger';
  /** Only the icon is seen; the label is for who cannot see it. */
  iconOnly?: boolean;
  label: string;
  onClick?: () => unknown;
};

/** A button that is busy while what it started goes on. */
export function Button({ icon, tone = 'plain', iconOnly, label, onClick, ...rest }: ButtonProps) {
  const [busy, setBusy] = useState(false);
  const alive = useRef(true);
  useEffect(() => () => void (alive.current = false), []);
  const run = () => {
    const result = onClick?.();
    if (!(result instanceof Promise)) return;
    setBusy(true);
    void result.finally(() => alive.current && setBusy(false));
  };
  return (
    <button
      type="button"
      {...rest}
      class={`button ${tone}${iconOnly ? ' icon-only' : ''}`}
      disabled={rest.disabled === true || busy}
      aria-busy={busy}
      {...(iconOnly ? { 'aria-label': label, title: label } : {})}
      {...(onClick === undefined ? {} : { onClick: run })}
    >
      {icon && <Icon of={icon} />}
      {!iconOnly && <span>{label}</span>}
    </button>
  );
}

/** Asks once more before it does what cannot be undone. */
export function Sure({
  label,
  sure,
  icon,
  onSure,
}: {
  label: string;
  sure: string;
  icon?: IconNode;
  onSure: () => Promise<unknown>;
}) {
  const [asked, setAsked] = useState(false);
  return asked ? (
    <span class="sure">
      <Button tone="danger" label={sure} onClick={() => onSure().finally(() => setAsked(false))} />
      <Button tone="quiet" label="No" onClick={() => setAsked(false)} />
    </span>
  ) : (
    <Button label={label} {...(icon === undefined ? {} : { icon })} onClick={() => setAsked(true)} />
  );
}

export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: ComponentChildren;
  children: (id: string) => ComponentChildren;
}) {
  const id = useId();
  return (
    <div class="field">
      <div class="field-head">
        <label for={id}>{label}</label>
        {hint !== undefined && <span class="hint">{hint}</span>}
      </div>
      {children(id)}
    </div>
  );
}

/** One of a few, side by side. */
export function Choice<T extends string | number>({
  label,
  options,
  value,
  onChange,
}: {
  label: string;
  options: ReadonlyArray<{ value: T; label: string; disabled?: boolean; title?: string }>;
  value: T;
  onChange: (value: T) => void;
}) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend>{label}</legend>
      <div class="choice-options">
        {options.map((option) => (
          <label key={option.value} title={option.title} class={option.disabled ? 'off' : ''}>
            <input
              type="radio"
              name={name}
              checked={option.value === value}
              disabled={option.disabled}
              onChange={() => onChange(option.value)}
            />
            <span>{option.label}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** Words that the prompts of a list contain. */
export function Search({ text, onChange }: { text: string; onChange: (text: string) => void }) {
  return (
    <label class="search">
      <Icon of={SearchIcon} />
      <input
        type="search"
        aria-label="Find in prompts"
        placeholder="Find in prompts"
        value={text}
        onInput={({ currentTarget }) => onChange(currentTarget.value)}
      />
    </label>
  );
}

export function Notice({
  tone = 'info',
  children,
}: {
  tone?: 'info' | 'warning' | 'error';
  children: ComponentChildren;
}) {
  return (
    <div class={`notice ${tone}`} role={tone === 'error' ? 'alert' : 'status'}>
      {children}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children !== undefined && <p>{children}</p>}
    </div>
  );
}

export function Head({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <header class="head">
      <h1 tabIndex={-1}>{title}</h1>
      <div class="head-side">{children}</div>
    </header>
  );
}

/** Above everything else until it is closed: by its button, by Escape, or by a click beside it. */
export function Dialog({
  label,
  look,
  onClose,
  onKeyDown,
  children,
}: {
  label: string;
  look: 'detail' | 'sheet';
  onClose: () => void;
  onKeyDown?: (event: KeyboardEvent) => void;
  children: (close: () => void) => ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const close = () => dialog.current?.close();
  return (
    <dialog
      ref={dialog}
      class={`dialog ${look}`}
      aria-label={label}
      onClose={onClose}
      onClick={({ target }) => target === dialog.current && close()}
      {...(onKeyDown === undefined ? {} : { onKeyDown })}
    >
      {children(close)}
    </dialog>
  );
}

/** Names and what they stand at; nothing is listed that is not known. */
export function Facts({
  rows,
  look = 'settings',
}: {
  rows: ReadonlyArray<readonly [name: string, value: string | number | undefined]>;
  look?: 'settings' | 'figures';
}) {
  return (
    <dl class={look}>
      {rows.map(
        ([name, value]) =>
          value !== undefined && (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

/** Below the list: being seen asks for more. */
export function Sentinel({ onSeen }: { onSeen: () => void }) {
  const end = useRef<HTMLDivElement>(null);
  const latest = useRef(onSeen);
  latest.current = onSeen;
  useEffect(() => {
    if (end.current === null) return;
    const observer = new IntersectionObserver(
      ([entry]) => entry?.isIntersecting === true && latest.current(),
      { rootMargin: '800px' },
    );
    observer.observe(end.current);
    return () => observer.disconnect();
  });
  return <div ref={end} class="sentinel" aria-hidden="true" />;
}

/** Text to copy, with a button that does it. */
export function Copyable({ label, text }: { label: string; text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => selectAll(text));
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <figure class="code">
      <figcaption>
        <span>{label}</span>
        <Button tone="quiet" label={copied ? 'Copied' : 'Copy'} onClick={copy} />
      </figcaption>
      <pre tabIndex={0} aria-label={label}>
        {text}
      </pre>
    </figure>
  );
}

/** Without TLS there is no clipboard to write to: what is selected can be copied by hand. */
function selectAll(text: string): void {
  const block = [...document.querySelectorAll('pre')].find((one) => one.textContent === text);
  if (block !== undefined) getSelection()?.selectAllChildren(block);
}
