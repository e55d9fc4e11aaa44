import { useState } from 'preact/hooks';
import { thumbnailAddress } from '../assets.js';
import { promptOf } from '../draw/draft.js';
import { isVideoType, typeName } from '../format.js';
import { addressOf, go } from '../route.js';
import { Empty, Head, Notice, Search, Sentinel } from '../ui.js';
import { useJobs } from '../use-jobs.js';
import { Detail } from './detail.js';

type Kind = 'all' | 'image' | 'video';
interface Filter {
  text: string;
  kind: Kind;
}

/** Everything that was finished, newest first; more of it as one scrolls. */
export function GalleryScreen({ item }: { item: string | null }) {
  const [filter, setFilter] = useState<Filter>({ text: '', kind: 'all' });
  const { jobs, more, problem, loadMore, drop } = useJobs('completed', filter.text);
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
