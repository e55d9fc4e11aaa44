/**
 * Reference pictures from the queue's string to the drawn one: three modes on the shipped model,
 * image-to-image on an export without an adapter.
 */
import path from 'node:path';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { readAdapterKit, writeAdapterModel } from '../../tools/parity/adapter.js';
import { referencePairs, scoreReference } from '../../tools/pocket-check/references.js';
import { drawScene } from '../../tools/pocket-check/scenes.js';
import { startAssetServer } from '../helpers/asset-server.js';
import { sdxlPayload, type SdxlPayload } from '../helpers/jobs.js';
import { drawFromQueue, startProducer } from '../helpers/producer.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(240_000);

const skip = requireCommand('redis-server');

const cases = (['composition', 'style', 'character'] as const).flatMap((type) =>
  referencePairs(type, 2).map((pair, index) => ({ pair, seed: 4000 + index, file: `${type}-${index}.png` })),
);

/** A worker whose models folder holds one SDXL and nothing else, and references for its jobs. */
async function startWorker(t: Test, model: string) {
  const producer = await startProducer(t);
  const pictures = await startAssetServer(
    Object.fromEntries(
      await Promise.all(cases.map(async ({ pair, file }) => [file, await drawScene(pair.scene)] as const)),
    ),
  );
  t.teardown(() => pictures.close());
  const folder = t.testdir({ sdxl: t.fixture('symlink', path.resolve(projectRoot(), model)) });
  const service = await startService({
    env: { ...producer.env, REFERENCE_ALLOWED_HOSTS: pictures.host, MODELS_DIR: folder },
  });
  t.teardown(() => service.cleanUp());
  return {
    urlOf: (file: string) => `${pictures.origin}/${file}`,
    draw: async (overrides: Partial<SdxlPayload>) =>
      drawFromQueue(t, producer, service, sdxlPayload(overrides)),
    features: async () =>
      ((await service.getJson('/capabilities')) as { engines: { sdxl: { features: string[] } } }).engines.sdxl
        .features,
  };
}

t.test('the shipped model keeps what the mode is for', { skip }, async (t) => {
  const { draw, urlOf, features } = await startWorker(t, 'models/pocket/sdxl');
  for (const { pair, seed, file } of cases) {
    const config = { num_images: 1, seed };
    const without = await draw({ prompt: pair.prompt, config });
    const { picture, metadata } = await draw({
      prompt: pair.prompt,
      config,
      metadata: { reference_image_url: urlOf(file), reference_type: pair.type, reference_strength: 1 },
    });
    t.match(metadata, { reference_method: 'ip_adapter', reference_mode: pair.type, reference_strength: 1 });
    t.notOk('reference_method' in without.metadata);
    const [seen, before] = [scoreReference(pair, picture), scoreReference(pair, without.picture)];
    t.ok(seen.kept, `${file}: "${pair.prompt}" keeps it (${seen.distance.toFixed(2)})`);
    t.ok(
      seen.distance < before.distance,
      `nearer than without: ${seen.distance.toFixed(2)}, ${before.distance.toFixed(2)}`,
    );
  }
  t.ok((await features()).includes('ip_adapter'));
});

t.test("an IP-Adapter in the model's folder gives references to the checkpoint", { skip }, async (t) => {
  const [tiny, kit] = ['models/sdxl-tiny', 'kit'].map((name) =>
    path.join(projectRoot(), 'test/parity', name),
  );
  const model = path.join(t.testdir(), 'tiny');
  await writeAdapterModel(model, tiny as string, await readAdapterKit(kit as string), {
    adapter: 'plus',
    factors: null,
  });
  await t.test('drawn', async (t) => {
    const { draw, urlOf, features } = await startWorker(t, model);
    const config = { num_images: 1, seed: 4 };
    const reference = { reference_image_url: urlOf('style-0.png'), reference_type: 'character' } as const;
    const without = await draw({ config });
    const { picture, metadata } = await draw({ config, metadata: reference });
    t.match(metadata, { reference_method: 'ip_adapter', reference_mode: 'character' });
    t.notOk(Buffer.from(picture.data).equals(without.picture.data), 'it makes a difference');
    t.ok((await features()).includes('ip_adapter'));
  });
});

t.test('an export without adapter inputs starts from the picture and says so', { skip }, async (t) => {
  const { draw, urlOf, features } = await startWorker(t, 'test/parity/models/sdxl-tiny');
  const { metadata } = await draw({
    metadata: { reference_image_url: urlOf('style-0.png'), reference_type: 'style', reference_strength: 0.8 },
  });
  t.match(metadata, { reference_method: 'img2img', reference_mode: 'style', reference_strength: 0.8 });
  t.notOk((await features()).includes('ip_adapter'));
});
