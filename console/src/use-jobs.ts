import { useEffect, useRef, useState } from 'preact/hooks';
import { api, type Job, problemOf } from './api.js';
import { jobsChanged } from './live.js';

const pageSize = 100;
/** Beside what is told as it happens: times pass without an event, and while the service is away none comes. */
const lookMs = 10_000;
const typingMs = 250;

interface List {
  /** What was asked for; an answer to anything else comes too late. */
  of: string;
  jobs: Job[];
  /** So many of them were on the first page. */
  first: number;
  next: string | undefined;
}

/** Newest first, page by page; the first page is looked at again and again. */
export function useJobs(status: Job['status'] | 'all', text: string) {
  const words = text.trim();
  const of = `${status} ${words}`;
  const [list, setList] = useState<List | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const look = useRef<(anew?: boolean) => void>(() => {});
  const loading = useRef('');

  async function pageAt(cursor?: string, signal?: AbortSignal): Promise<List> {
    const query = {
      limit: pageSize,
      ...(status === 'all' ? {} : { status }),
      ...(words === '' ? {} : { text: words }),
      ...(cursor === undefined ? {} : { cursor }),
    };
    const { jobs, next_cursor: next } = await api.listJobs(query, signal === undefined ? {} : { signal });
    return { of, jobs, first: jobs.length, next };
  }

  useEffect(() => {
    const leave = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let [isLooking, again, anew] = [false, false, false];
    const lookNow = async () => {
      clearTimeout(timer);
      // To begin anew at each change would never end where much happens: once more, after this.
      if (isLooking) return void (again = true);
      [isLooking, again] = [true, false];
      try {
        if (!document.hidden) {
          const page = await pageAt(undefined, leave.signal);
          const known = anew ? () => page : (known: List | null) => renewed(known, page);
          anew = false;
          setList(known);
          setProblem(null);
        }
      } catch (error) {
        if (leave.signal.aborted) return;
        setProblem(problemOf(error));
      }
      isLooking = false;
      timer = setTimeout(() => void lookNow(), again ? 0 : lookMs);
    };
    look.current = (fromTheTop = false) => {
      anew ||= fromTheTop;
      void lookNow();
    };
    timer = setTimeout(() => void lookNow(), words === '' ? 0 : typingMs);
    const unsubscribe = jobsChanged.subscribe(() => void lookNow());
    return () => {
      unsubscribe();
      clearTimeout(timer);
      leave.abort();
    };
  }, [of]);

  function loadMore(): void {
    const cursor = list?.next;
    const what = `${of} ${cursor}`;
    if (list?.of !== of || cursor === undefined || loading.current === what) return;
    loading.current = what;
    pageAt(cursor)
      .then((page) =>
        setList((known) => (known?.of === of && known.next === cursor ? longer(known, page) : known)),
      )
      .catch((error: unknown) => setProblem(problemOf(error)))
      .finally(() => {
        if (loading.current === what) loading.current = '';
      });
  }

  return {
    jobs: list?.jobs ?? [],
    problem,
    /** Not all that there is, or nothing known yet. */
    more: list?.of !== of || list.next !== undefined,
    loadMore,
    /** From the top: something was done to many of them. */
    reload: () => look.current(true),
    drop: (id: string) =>
      setList((known) => known && { ...known, jobs: known.jobs.filter((job) => job.id !== id) }),
  };
}

/** What the first page says, and below it what was loaded further down: one may be looking at it. */
function renewed(known: List | null, page: List): List {
  if (known?.of !== page.of || page.next === undefined) return page;
  const ids = new Set(page.jobs.map(({ id }) => id));
  const places = page.jobs.map(({ id }) => known.jobs.findIndex((job) => job.id === id));
  const last = places.findLast((place) => place >= 0) ?? -1;
  // A search may find nothing among the newest, and all of it further down.
  const isBare = page.first === 0 && known.first === 0;
  // Nothing in common: what is between them is not known.
  const below = last >= 0 || isBare ? known.jobs.slice(last + 1).filter(({ id }) => !ids.has(id)) : [];
  return below.length === 0 ? page : { ...page, jobs: [...page.jobs, ...below], next: known.next };
}

function longer(known: List, { jobs, next }: List): List {
  const ids = new Set(known.jobs.map(({ id }) => id));
  return { ...known, jobs: [...known.jobs, ...jobs.filter(({ id }) => !ids.has(id))], next };
}
