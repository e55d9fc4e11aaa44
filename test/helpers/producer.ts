import sharp from 'sharp';
import type { Test } from 'tap';
import { startCallbackReceiver } from './callback-receiver.js';
import { readAsset, type SdxlPayload } from './jobs.js';
import { openRedis } from './redis.js';
import type { ServiceProcess } from './service-process.js';

/**
 * What stands around a worker: a real Redis that is empty, a client that pushes jobs, a receiver of
 * callbacks. All end with the test.
 */
export async function startProducer(t: Pick<Test, 'teardown'>) {
  const { server, redis } = await openRedis(t);
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  return { redis, receiver, env: { REDIS_URL: server.url, CALLBACK_URL: receiver.url, STORAGE: 'folder' } };
}
export type Producer = Awaited<ReturnType<typeof startProducer>>;

/** One job from the queue's string to its first picture's pixels and the metadata of its callback. */
export async function drawFromQueue(
  t: Pick<Test, 'equal'>,
  { redis, receiver }: Producer,
  service: ServiceProcess,
  payload: SdxlPayload,
) {
  await redis.lpush('sdxl_queue', JSON.stringify(payload));
  const { body } = await receiver.waitForTerminal(payload.id, 120_000);
  t.equal(body.status, 'completed', body.error_message ?? 'no error');
  const { data, info } = await sharp(await readAsset(service, body.assets[0] ?? ''))
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { picture: { data, width: info.width, height: info.height }, metadata: body.metadata };
}
