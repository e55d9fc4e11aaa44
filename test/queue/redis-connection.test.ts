import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { createRedisStore, type RedisStoreOptions } from '../../src/services/queue/redis/store.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { reserve, submit, tryReserve } from './suite/builders.js';

/**
 * A way to the server on which connections can fall silent: nothing passes any more, and nothing closes them.
 */
async function startSilencer(t: Test, port: number) {
  const paths = new Set<{ silent: boolean; client: net.Socket; server: net.Socket }>();
  let opened = 0;
  const proxy = net
    .createServer((client) => {
      const path = { silent: false, client, server: net.connect(port, '127.0.0.1') };
      opened += 1;
      paths.add(path);
      client.on('data', (data) => {
        if (!path.silent) path.server.write(data);
      });
      path.server.on('data', (data) => {
        if (!path.silent) client.write(data);
      });
      for (const [one, other] of [
        [client, path.server],
        [path.server, client],
      ] as const) {
        one.on('error', () => {});
        one.on('close', () => {
          other.destroy();
          paths.delete(path);
        });
      }
    })
    .listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.teardown(() => {
    for (const { client } of paths) client.destroy();
    proxy.close();
  });
  return {
    url: `redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    opened: () => opened,
    silence() {
      for (const path of paths) path.silent = true;
    },
  };
}

if (redisOrSkip(t)) {
  const server = await startRedis();
  t.teardown(() => server.stop());
  const open = async (t: Test, options: Partial<RedisStoreOptions> = {}) => {
    const way = await startSilencer(t, server.port);
    const store = createRedisStore({ url: way.url, answerTimeoutMs: 150, blockSeconds: 1, ...options });
    t.teardown(() => store.close());
    await store.ping();
    return { way, store };
  };

  await t.test('a request on a connection that fell silent is answered on another one', async (t) => {
    const { way, store } = await open(t);
    const job = await submit(store);
    way.silence();
    t.match(await store.get(job.id), { id: job.id, status: 'queued' });
    way.silence();
    t.equal((await reserve(store)).lease.jobId, job.id, 'and taken once');
    t.equal(await tryReserve(store), null);
  });

  await t.test('connections that owe nothing, or block on purpose, are left alone', async (t) => {
    const { way, store } = await open(t, { answerTimeoutMs: 50 });
    t.equal(await tryReserve(store), null);
    const waited = store.waitForWork(['sdxl_queue'], 700, new AbortController().signal);
    await waitFor(() => way.opened() === 3, {
      what: 'connections for commands, for the channels and for the wait',
    });
    await waited;
    await store.ping();
    t.equal(way.opened(), 3);
  });
}
