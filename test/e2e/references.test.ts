/** Reference pictures from the queue's string to the drawn one: three modes on the shipped model, image-to-image on an export without an adapter. */
import path from 'node:path';
import { Redis } from 'ioredis';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/project-root.js';
import { referencePairs, scoreReference } from '../../tools/pocket-check/references.js';
import { drawScene } from '../../tools/pocket-check/scenes.js';
import { startAssetServer } from '../helpers/asset-server.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { readAsset, sdxlPayload, type SdxlPayload } from '../helpers/jobs.js';
import { startRedis } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(240_000);

const modes = ['composition', 'style', 'character'] as const;
const pairs = modes.map((type) => referencePairs(type, 2));
const nameOf = (type: string, index: number) => `${type}-${index}.png`;

const redisServer = await startRedis();
t.teardown(() => redisServer.stop());
const redis = new Redis(redisServer.url);
t.teardown(() => redis.disconnect());
const receiver = await startCallbackReceiver();
t.teardown(() => receiver.close());
const pictures = await startAssetServer(Object.fromEntries(await Promise.all(pairs.flat().map(async (pair, i) => [nameOf(pair.type, i % 2), await drawScene(pair.scene)] as const))));
t.teardown(() => pictures.close());

/** A worker whose models folder holds one SDXL and nothing else. */
async function startWorker(t: Test, model: string) {
  const folder = t.testdir({ sdxl: t.fixture('symlink', path.join(projectRoot(), model)) });
  const service = await startService({ env: { REDIS_URL: redisServer.url, CALLBACK_URL: receiver.url, STORAGE: 'folder', REFERENCE_ALLOWED_HOSTS: pictures.host, MODELS_DIR: folder } });
  t.teardown(() => service.cleanUp());
  const draw = async (overrides: Partial<SdxlPayload>) => {
    const payload = sdxlPayload(overrides);
    await redis.lpush('sdxl_queue', JSON.stringify(payload));
    const { body } = await receiver.waitForTerminal(payload.id, 120_000);
    t.equal(body.status, 'completed', body.error_message ?? 'no error');
    const { data, info } = await sharp(await readAsset(service, body.assets[0] ?? '')).raw().toBuffer({ resolveWithObject: true });
    return { picture: { data, width: info.width, height: info.height }, metadata: body.metadata };
  };
  const features = async () => (await service.getJson('/capabilities') as { engines: { sdxl: { features: string[] } } }).engines.sdxl.features;
  return { draw, features };
}

const skip = requireCommand('redis-server');

t.test('the shipped model keeps what the mode is for', { skip }, async (t) => {
  const { draw, features } = await startWorker(t, 'models/pocket/sdxl');
  for (const pair of pairs.flat()) {
    const index = pairs.flat().indexOf(pair) % 2;
    const config = { num_images: 1, seed: 4000 + index };
    const without = await draw({ prompt: pair.prompt, config });
    const { picture, metadata } = await draw({ prompt: pair.prompt, config, metadata: { reference_image_url: `${pictures.origin}/${nameOf(pair.type, index)}`, reference_type: pair.type, reference_strength: 1 } });
    t.match(metadata, { reference_method: 'ip_adapter', reference_mode: pair.type, reference_strength: 1 });
    t.notOk('reference_method' in without.metadata);
    const [seen, before] = [scoreReference(pair, picture), scoreReference(pair, without.picture)];
    t.ok(seen.kept, `${pair.type} ${index}: "${pair.prompt}" keeps it (${seen.distance.toFixed(2)})`);
    t.ok(seen.distance < before.distance, `nearer than without: ${seen.distance.toFixed(2)}, ${before.distance.toFixed(2)}`);
  }
  t.ok((await features()).includes('ip_adapter'));
});

t.test('an export without adapter inputs starts from the picture and says so', { skip }, async (t) => {
  const { draw, features } = await startWorker(t, 'test/parity/models/sdxl-tiny');
  const { metadata } = await draw({ metadata: { reference_image_url: `${pictures.origin}/${nameOf('style', 0)}`, reference_type: 'style', reference_strength: 0.8 } });
  t.match(metadata, { reference_method: 'img2img', reference_mode: 'style', reference_strength: 0.8 });
  t.notOk((await features()).includes('ip_adapter'));
});
