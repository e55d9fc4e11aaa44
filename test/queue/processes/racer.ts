/**
 * A process that takes jobs as fast as it can, in eight places at once, and ends when nothing is left. While
 * it holds a job it holds a marker of the job's id that only one can hold. Prints one JSON line: what it
 * finished and what it held beside another.
 */
import { Redis } from 'ioredis';
import { createRedisStore } from '../../../src/services/queue/redis/store.js';
import type { SomeJob } from '../suite/builders.js';

const [url = '', workerId = ''] = process.argv.slice(2);
const store = createRedisStore({ url });
const markers = new Redis(url);
const finished: string[] = [];
const heldTwice: string[] = [];
let reservations = 0;

async function race(place: number) {
  for (;;) {
    const reservation = await store.reserve({ queue: 'sdxl_queue', workerId, leaseMs: 60_000 });
    if (reservation === null) {
      const { delayed, running, waiting } = await store.depth('sdxl_queue');
      if (delayed + running + waiting === 0) return;
      await store.waitForWork(['sdxl_queue'], 50, new AbortController().signal);
      continue;
    }
    reservations += 1;
    const { lease } = reservation;
    const {
      id,
      type,
      user_id: userId,
    } = JSON.parse(reservation.payload) as { id: string; type: SomeJob['type']; user_id: string };
    if ((await markers.set(`holds:${id}`, `${workerId}:${place}`, 'NX')) === null) heldTwice.push(id);
    if ((await store.begin(lease, { id, type, userId })) !== 'begun') throw new Error(`${id} was not begun`);
    await markers.del(`holds:${id}`);
    // Some jobs come back once or twice, so that the retry line is raced for as well.
    if (reservation.attempt < 3 && reservations % 10 === 0) await store.retryLater(lease, 0, 'again');
    else if (reservations % 17 === 0) await store.release(lease);
    else if (await store.finish(lease, { status: 'completed', assets: [], metadata: {} })) finished.push(id);
    else throw new Error(`${id} was not finished`);
  }
}

await Promise.all(Array.from({ length: 8 }, (_, place) => race(place)));
console.log(JSON.stringify({ finished, heldTwice, reservations }));
await store.close();
markers.disconnect();
