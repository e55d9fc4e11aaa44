import type { Redis } from 'ioredis';
import { type JobType, queueNames } from '../../catalogue.js';
import type { JobRecord, JobStore } from '../job-store.js';
import { createRecord, listingStart, matches, mostListed } from '../records.js';
import type { RunScript } from './scripts.js';
import type { createWaitingPayloads, WaitingPayload } from './waiting-payloads.js';

interface Options {
  redis: Redis;
  run: RunScript;
  prefix: string;
  readRecord: (id: string) => Promise<JobRecord | null>;
  waiting: ReturnType<typeof createWaitingPayloads>;
}

/** Jobs as they are looked at: one, where it stands, and all of them. */
export function createListing({
  redis,
  run,
  prefix,
  readRecord,
  waiting,
}: Options): Pick<JobStore, 'get' | 'position' | 'positions' | 'list'> {
  /** A record, or of a pushed payload that no runner has begun yet what can be said of it. */
  async function find(id: string): Promise<{ record: JobRecord; position?: number | null } | null> {
    const known = await readRecord(id);
    if (known !== null) return { record: known };
    const [found] = await waiting.find(id);
    if (found !== undefined) return { record: recordOf(found), position: found.position };
    // Begun while it was looked for.
    const begun = await readRecord(id);
    return begun === null ? null : { record: begun };
  }

  async function positions(ids: readonly string[]): Promise<Map<string, number>> {
    const places = new Map<string, number>();
    const found = (await Promise.all(ids.map(find))).filter((each) => each !== null);
    for (const { record, position } of found)
      if (typeof position === 'number') places.set(record.id, position);
    for (const queue of queueNames) {
      const asked = found
        .filter(({ record, position }) => position === undefined && record.queue === queue)
        .map(({ record }) => record.id);
      const answer = asked.length === 0 ? [] : ((await run('position', queue, ...asked)) as number[]);
      for (const [index, position] of answer.entries())
        if (position >= 0) places.set(asked[index] ?? '', position);
    }
    return places;
  }

  /** What was pushed and has no record yet, in the order of ids, then records, newest first. */
  const list: JobStore['list'] = async (filter, limit, cursor) => {
    const jobs: JobRecord[] = [];
    const pushed = pushedCursor.exec(cursor ?? '')?.[1];
    if ((filter.status ?? 'queued') === 'queued' && (cursor === undefined || pushed !== undefined)) {
      // What has been begun since is no longer among them: the one after is then the next.
      const unbegun = (await waiting.recordless()).map(recordOf).filter((record) => matches(record, filter));
      const begin = pushed === undefined ? 0 : unbegun.findIndex(({ id }) => id > pushed);
      if (begin >= 0) jobs.push(...unbegun.slice(begin, begin + limit));
      const last = jobs.at(-1);
      if (last !== undefined && begin >= 0 && begin + limit < unbegun.length)
        return { jobs, nextCursor: `pushed:${last.id}` };
    }
    let after = pushed === undefined ? cursor : undefined;
    // Of most members with another beginning nothing but the id is looked at.
    const most = filter.idPrefix === undefined ? membersPerCall : 10 * membersPerCall;
    for (let looked = 0; ;) {
      const start = after === undefined ? '-' : `(${after}`;
      const members = await redis.zrangebylex(`${prefix}jobs`, start, '+', 'LIMIT', 0, most);
      const wanted = members.filter((member) =>
        idOf(member).startsWith(filter.idPrefix?.toLowerCase() ?? ''),
      );
      const records = await Promise.all(wanted.map((member) => readRecord(idOf(member))));
      for (const [index, record] of records.entries()) {
        if (record === null || !matches(record, filter)) continue;
        if (jobs.length === limit) return { jobs, nextCursor: wanted[index - 1] ?? after ?? listingStart };
        jobs.push(record);
      }
      looked += wanted.length;
      after = members.at(-1);
      if (members.length < most) return { jobs };
      if (looked >= mostListed && after !== undefined) return { jobs, nextCursor: after };
    }
  };
  return {
    get: async (id) => (await find(id))?.record ?? null,
    position: async (id) => (await positions([id])).get(id) ?? null,
    positions,
    list,
  };
}

const membersPerCall = 100;
const pushedCursor = /^pushed:([0-9a-f-]{36})$/;
const idOf = (member: string) => member.slice(member.indexOf(':') + 1);

/** A raw push carries no time: it counts from now. */
export function recordOf({ read, queue, queuedAtMs }: WaitingPayload): JobRecord {
  return createRecord({ ...read, type: read.type as JobType }, queue, queuedAtMs ?? Date.now());
}
