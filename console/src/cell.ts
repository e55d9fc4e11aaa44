import { useEffect, useState } from 'preact/hooks';

/** A value that parts of the page share. */
interface Cell<T> {
  get(): T;
  set(value: T): void;
  subscribe(listener: (value: T) => void): () => void;
}

export function createCell<T>(initial: T): Cell<T> {
  let value = initial;
  const listeners = new Set<(value: T) => void>();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener(next);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

export function useCell<T>(cell: Cell<T>): T {
  const [value, setValue] = useState(() => cell.get());
  useEffect(() => {
    setValue(() => cell.get());
    return cell.subscribe((next) => setValue(() => next));
  }, [cell]);
  return value;
}

/** A cell that outlives a reload of this tab. */
export function createKeptCell<T>(name: string, initial: T): Cell<T> {
  const key = `ourvidz.${name}`;
  let kept = initial;
  try {
    const text = sessionStorage.getItem(key);
    if (text !== null) kept = { ...initial, ...(JSON.parse(text) as T) };
  } catch {
    // Kept by another version, or nothing may be kept: begin anew.
  }
  const cell = createCell(kept);
  cell.subscribe((value) => {
    try {
      sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      // A full store keeps the draft from outliving a reload, nothing else.
    }
  });
  return cell;
}
