/** A process that does durable things in an embedded store, says so line by line, and waits to be killed. */
import { createEmbeddedStore } from '../../../src/services/queue/embedded/store.js';
import { reserve, someJob, start, submit } from '../suite/builders.js';

const [folder = ''] = process.argv.slice(2);
const store = await createEmbeddedStore({ folder });
const finished = await submit(store);
const running = await submit(store);
const retried = await submit(store);
const reserved = await submit(store);
const waiting = await submit(store);
const { lease } = await start(store, finished);
await start(store, running);
const again = await start(store, retried);
await store.retryLater(again.lease, 3_600_000, 'later');
await reserve(store);
await store.finish(lease, {
  status: 'completed',
  assets: ['a.png'],
  metadata: { seed: 3 },
  callback: {
    id: `${finished.id}:completed`,
    jobId: finished.id,
    event: 'completed',
    url: 'http://127.0.0.1/',
    body: '{}',
    createdAtMs: 1,
  },
});
const unused = someJob();
console.log(JSON.stringify({ finished, running, retried, reserved, waiting, unused }));
setInterval(() => undefined, 1000);
