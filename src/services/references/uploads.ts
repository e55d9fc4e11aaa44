import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Logger } from 'pino';
import type { RoomWatch } from '../../lib/data-folder.js';
import type { Storage } from '../storage/storage.js';
import type { ReferenceFetcher } from './fetcher.js';
import { catalogue, isJobType } from '../catalogue.js';
import { PictureProblem } from './url-policy.js';

/** Where a reference lies in our own storage. */
export interface Place {
  bucket: string;
  name: string;
}

/** Buckets of inputs; a producer may name anything in them. */
const inputBuckets = new Set(['reference_images', 'workspace_assets']);
export const uploadBucket = 'reference_images';
const uploadName = /^uploads\/([0-9a-f-]{36})\/(\d{1,12})-[0-9a-f-]{36}\.png$/;

export interface OwnAddresses {
  /** Of Supabase: addresses of objects in it are read with our key instead of from outside. */
  supabaseUrl?: string | undefined;
  /** Of this service. */
  publicUrl?: string | undefined;
  /** What this service listens at: known to the programs of this machine, which no other could mean by it. */
  localPort?: number | undefined;
}

/**
 * The place a reference names: `bucket/path`, an asset's address as jobs list it, or an object's address in Supabase,
 * public, signed or not, as a picture of another size too. Null for everything that is fetched from elsewhere.
 */
export function placeOf(reference: string, own: OwnAddresses = {}): Place | null {
  const [, bucket, name] = /^([a-z0-9_]+)\/(.+)$/s.exec(reference) ?? [];
  if (bucket !== undefined && name !== undefined) return { bucket, name };
  const { supabaseUrl, publicUrl, localPort } = own;
  const local = localPort
    ? ['localhost', '127.0.0.1', '[::1]'].map((host) => `http://${host}:${localPort}`)
    : [];
  const path =
    assetPath.exec(reference.split(/[?#]/)[0] ?? '')?.[1] ??
    [publicUrl, ...local].map((base) => assetPath.exec(pathBelow(base, reference))?.[1]).find(Boolean) ??
    objectPath.exec(pathBelow(supabaseUrl, reference))?.[1];
  if (path === undefined) return null;
  try {
    return placeOf(path.split('/').map(decodeURIComponent).join('/'));
  } catch {
    return null;
  }
}

const assetPath = /^\/assets\/(.+)$/;
const objectPath =
  /^\/+storage\/+v1\/+(?:object|render\/+image)\/+(?:(?:public|sign|authenticated)\/+)?([^/].*)$/;

/** The path of an address as it stands below another one; empty for one that is elsewhere. */
function pathBelow(base: string | undefined, reference: string): string {
  const [home, url] = [URL.parse(base ?? ''), URL.parse(reference)];
  const root = home?.pathname.replace(/\/+$/, '') ?? '';
  const isBelow = url !== null && url.origin === home?.origin && url.pathname.startsWith(`${root}/`);
  return isBelow && url.username + url.password === '' ? url.pathname.slice(root.length) : '';
}

/** Where an upload goes: whose it is and until when it may be used stand in its name, and nowhere else. */
export const placeOfUpload = (userId: string, expiresAt: number, id: string): Place => ({
  bucket: uploadBucket,
  name: `uploads/${userId}/${expiresAt}-${id}.png`,
});

/** Seconds since 1970 until which an upload may be used; null for what is no upload. */
export const expiryOf = (name: string): number | null => {
  const [, , expiry] = uploadName.exec(name) ?? [];
  return expiry === undefined ? null : Number(expiry);
};

/** Whose folder a file lies in, in lower case. */
export const ownerOf = (name: string) => /^(?:uploads\/)?([^/]+)\//.exec(name)?.[1]?.toLowerCase();

/**
 * Files of jobs and uploads are their user's alone.
 * @throws PictureProblem
 */
export function checkOwner({ bucket, name }: Place, userId: string): void {
  const isInput = inputBuckets.has(bucket);
  if (!isInput && !isJobType(bucket)) {
    const known = [...inputBuckets, ...Object.values(catalogue).map((type) => type.bucket)].join(', ');
    throw new PictureProblem('url', `names no bucket of this service; there are ${known}`);
  }
  const isOwned = !isInput || name.startsWith('uploads/');
  if (isOwned && ownerOf(name) !== userId.toLowerCase())
    throw new PictureProblem('owner', 'names a file of another user');
}

interface UploadsOptions {
  storage: Pick<Storage, 'put' | 'list' | 'remove'>;
  pictures: Pick<ReferenceFetcher, 'decode' | 'maxBytes'>;
  /** Where files lie while they are looked at. */
  folder: string;
  /** How long an upload may be used. */
  seconds: number;
  own?: OwnAddresses;
  room?: Pick<RoomWatch, 'require'>;
  log: Logger;
}

export interface StoredReference {
  /** What a job's reference fields take. */
  reference: string;
  width: number;
  height: number;
  bytes: number;
  expiresAtMs: number;
}
export type ReferenceUploads = ReturnType<typeof createReferenceUploads>;

/** Files of pages and of the command line, kept for a while as references of one user's jobs. */
export function createReferenceUploads(options: UploadsOptions) {
  const { storage, pictures, folder, seconds, own: addresses = {}, room, log } = options;
  return {
    maxBytes: pictures.maxBytes,

    /** A producer may name any file of the buckets of inputs; who acts for one user, only that user's. */
    isOfAnother(reference: string, userId: string): boolean {
      const place = placeOf(reference, addresses);
      return place !== null && inputBuckets.has(place.bucket) && ownerOf(place.name) !== userId.toLowerCase();
    },

    /**
     * Stores what a decoder in a process of its own made of the file: never the file itself.
     * @throws AppError `invalidParameters`, `bodyTooLarge`, `insufficientStorage`
     */
    async store(file: Readable, userId: string, signal: AbortSignal): Promise<StoredReference> {
      await room?.require();
      await mkdir(folder, { recursive: true });
      const own = await mkdtemp(path.join(folder, 'upload-'));
      const [raw, png] = [path.join(own, 'raw'), path.join(own, 'picture.png')];
      try {
        await pipeline(file, createWriteStream(raw), { signal });
        const size = await pictures.decode(raw, png, 'file', signal);
        const { size: bytes } = await stat(png);
        const expiresAt = Math.floor(Date.now() / 1000) + seconds;
        const { bucket, name } = placeOfUpload(userId.toLowerCase(), expiresAt, randomUUID());
        await storage.put(bucket, name, { localPath: png, contentType: 'image/png', bytes }, signal);
        return { reference: `${bucket}/${name}`, ...size, bytes, expiresAtMs: expiresAt * 1000 };
      } finally {
        await rm(own, { recursive: true, force: true });
      }
    },

    /** Removes uploads whose time is over. */
    async clean(signal: AbortSignal): Promise<void> {
      const expired: string[] = [];
      for (const user of await storage.list(uploadBucket, 'uploads', signal)) {
        const names = await storage.list(uploadBucket, `uploads/${user}`, signal);
        expired.push(
          ...names
            .map((name) => `uploads/${user}/${name}`)
            .filter((name) => (expiryOf(name) ?? Infinity) * 1000 < Date.now()),
        );
      }
      await storage.remove(uploadBucket, expired);
      if (expired.length > 0) log.info({ count: expired.length }, 'references whose time was over are gone');
    },
  };
}
