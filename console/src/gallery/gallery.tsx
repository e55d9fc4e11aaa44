import { useEffect, useRef, useState } from 'preact/hooks';
import { api, type Job, problemOf } from '../api.js';
import { thumbnailAddress } from '../assets.js';
import { useCell } from '../cell.js';
import { promptOf } from '../draw/draft.js';
import { isVideoType, typeName } from '../format.js';
import { jobsChanged } from '../live.js';
import { addressOf, go } from '../route.js';
import { Empty, Head, Notice, Search, Sentinel } from '../ui.js';
import { Detail } from './detail.js';

type Kind = 'all' | 'image' | 'video';
interface Filter {
  text: string;
  kind: Kind;
}
const pageSize = 100;

/** Everything that was finished, newest first; more of it as one scrolls. */
export function GalleryScreen({ item }: { item: string | null }) {
  const [filter, setFilter] = useState<Filter>({ text: '', kind: 'all' });
  const { jobs, more, problem, loadMore, drop } = useFinishedJobs(filter.text);
  const shown = jobs.filter(
    ({ type, assets }) =>
      assets.length > 0 && (filter.kind === 'all' || isVideoType(type) === (filter.kind === 'video')),
  );
  const [openId, openIndex] = item?.split('.') ?? [];
  const tiles = shown.flatMap((job) => job.assets.map((_, index) => ({ job, index })));
  const at = tiles.findIndex(({ job, index }) => job.id === openId && index === Number(openIndex));
  const step = (by: number) => {
    const next = tiles[at + by];
    if (next !== undefined) go('gallery', `${next.job.id}.${next.index}`);
  };

  return (
    <>
      <Head title="Gallery">
        <Search text={filter.text} onChange={(text) => setFilter({ ...filter, text })} />
        <select
          aria-label="Kind"
          value={filter.kind}
          onChange={({ currentTarget }) => setFilter({ ...filter, kind: currentTarget.value as Kind })}
        >
          <option value="all">Pictures and videos</option>
          <option value="image">Pictures</option>
          <option value="video">Videos</option>
        </select>
      </Head>
      {problem !== null && <Notice tone="error">{problem}</Notice>}
      {tiles.length === 0 && !more ? (
        <Empty title={filter.text === '' ? 'Nothing here yet' : 'Nothing was found'}>
          {filter.text === '' ? <a href={addressOf('draw')}>Draw the first picture</a> : 'Try other words.'}
        </Empty>
      ) : (
        <ul class="tiles">
          {tiles.map(({ job, index }) => (
            <li key={`${job.id}.${index}`}>
              <a href={addressOf('gallery', `${job.id}.${index}`)} title={promptOf(job)}>
                <img
                  src={thumbnailAddress(job, index, 256)}
                  alt={promptOf(job) || typeName(job.type)}
                  loading="lazy"
                  decoding="async"
                />
                {isVideoType(job.type) && <span class="badge">Video</span>}
              </a>
            </li>
          ))}
        </ul>
      )}
      {more && <Sentinel onSeen={loadMore} />}
      {openId !== undefined && (
        <Detail
          key={openId}
          id={openId}
          index={Number(openIndex ?? 0)}
          known={jobs.find(({ id }) => id === openId)}
          onStep={step}
          onClose={() => go('gallery')}
          onDeleted={() => {
            drop(openId);
            go('gallery');
          }}
        />
      )}
    </>
  );
}

function useFinishedJobs(text: string) {
  const round = useCell(jobsChanged);
  const [jobs, setJobs] = useState<Job[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [more, setMore] = useState(true);
  const loading = useRef(false);
  const asked = useRef('');

  const load = (from: string | null, fresh = false) => {
    loading.current = true;
    const words = text.trim();
    asked.current = words;
    api
      .listJobs({
        status: 'completed',
        limit: pageSize,
        ...(from === null ? {} : { cursor: from }),
        ...(words === '' ? {} : { text: words }),
      })
      .then(
        ({ jobs: page, next_cursor: next }) => {
          if (asked.current !== words) return;
          setProblem(null);
          if (fresh) {
            // What was loaded further down stays: one may be looking at it.
            setJobs((known) => [...page.filter(({ id }) => !known.some((job) => job.id === id)), ...known]);
            return;
          }
          setJobs((known) => (from === null ? page : [...known, ...page]));
          setCursor(next ?? null);
          setMore(next !== undefined);
        },
        (error: unknown) => {
          setProblem(problemOf(error));
          setMore(false);
        },
      )
      .finally(() => {
        loading.current = false;
      });
  };

  useEffect(() => {
    const timer = setTimeout(() => load(null), text === '' ? 0 : 250);
    return () => clearTimeout(timer);
  }, [text]);
  const first = useRef(round);
  useEffect(() => {
    if (round !== first.current && !loading.current) load(null, true);
  }, [round]);

  return {
    jobs,
    more,
    problem,
    loadMore: () => {
      if (!loading.current && cursor !== null) load(cursor);
    },
    drop: (id: string) => setJobs((known) => known.filter((job) => job.id !== id)),
  };
}
