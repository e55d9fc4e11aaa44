import { api } from './api.js';
import { isVideoType } from './format.js';

/** Sizes that the service makes thumbnails of. */
type ThumbnailSize = 128 | 256 | 512;

interface Drawn {
  type: string;
  assets: readonly string[];
  metadata: Record<string, unknown>;
}

/** Where the n-th file is; of a storage that tells no addresses, undefined. */
export function fileAddress({ assets }: Pick<Drawn, 'assets'>, index: number): string | undefined {
  const asset = assets[index];
  return asset !== undefined && /^(\/|https?:)/.test(asset) ? asset : undefined;
}

/** A small picture of the n-th file, by this service whatever the storage is. */
export function thumbnailAddress(job: Drawn, index: number, size: ThumbnailSize): string | undefined {
  const paths = job.metadata['asset_paths'];
  const path = Array.isArray(paths) ? (paths as unknown[])[index] : undefined;
  if (typeof path === 'string') return api.thumbnailOf(path, size);
  const address = fileAddress(job, index);
  return address?.startsWith('/assets/') ? `${address}?size=${size}` : address;
}

/** The file itself: a picture, or a video that plays. */
export function Asset({ job, index, alt }: { job: Drawn; index: number; alt: string }) {
  const address = fileAddress(job, index);
  if (address === undefined) return <div class="no-picture">The storage tells no address.</div>;
  if (!isVideoType(job.type)) return <img class="picture" src={address} alt={alt} />;
  return <video class="picture" src={address} controls loop muted autoPlay playsInline aria-label={alt} />;
}

/** By the browser, which says how far it is and asks where to; nothing else is fetched from another host. */
export function download(address: string, name: string): void {
  const target = new URL(address, location.href);
  const link = document.createElement('a');
  if (target.origin !== location.origin) {
    // There the storage says that it is to be saved; Supabase does so by this.
    target.searchParams.set('download', name);
    link.target = '_blank';
  }
  link.href = target.href;
  link.download = name;
  link.click();
}
