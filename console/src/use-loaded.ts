import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { problemOf } from './api.js';

interface Loaded<T> {
  data: T | undefined;
  problem: string | null;
  reload: () => void;
}

/**
 * What the service says, asked again every `everyMs` while the page is seen. A problem keeps what was known before.
 */
export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  dependencies: unknown[],
  everyMs?: number,
): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, 'reload'>>({ data: undefined, problem: null });
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((count) => count + 1), []);
  const latest = useRef(load);
  latest.current = load;

  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const next = () => {
      if (everyMs !== undefined && !abort.signal.aborted) timer = setTimeout(look, everyMs);
    };
    const look = () => {
      if (document.hidden) return next();
      latest.current(abort.signal).then(
        (data) => {
          if (abort.signal.aborted) return;
          setState({ data, problem: null });
          next();
        },
        (error: unknown) => {
          if (abort.signal.aborted) return;
          setState(({ data }) => ({ data, problem: problemOf(error) }));
          next();
        },
      );
    };
    look();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [...dependencies, everyMs, round]);

  return { ...state, reload };
}
