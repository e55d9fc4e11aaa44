import path from 'node:path';
import t, { type Test } from 'tap';
import { openSdxlModel, type SdxlModel } from '../../../src/inference/sdxl/model.js';
import { createTextCache } from '../../../src/inference/sdxl/text-cache.js';
import { decodeToFloats } from '../../../src/inference/sdxl/vae.js';
import { projectRoot } from '../../../src/lib/project.js';

/** The tiny model, with a count of its text encoders' runs. */
async function openCounted(t: Test): Promise<{ model: SdxlModel; runs: () => number }> {
  const model = await openSdxlModel(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), {
    device: 'cpu',
    threads: 1,
  });
  t.teardown(() => model.release());
  let count = 0;
  const encoders = model.encoders.map((encoder) => ({
    ...encoder,
    session: {
      ...encoder.session,
      run: (...args: Parameters<typeof encoder.session.run>) => {
        count += 1;
        return encoder.session.run(...args);
      },
    },
  }));
  return { model: { ...model, encoders }, runs: () => count };
}

const ask = (
  prompt: string,
  rest: Partial<{
    negativePrompt: string | null;
    weights: Array<{ text: string; weight: number }>;
    parseWeights: boolean;
  }> = {},
) => ({ prompt, negativePrompt: null, weights: [], parseWeights: true, ...rest });

void t.test(
  'a text that comes again costs no run of an encoder, and the least recently used one goes first',
  async (t) => {
    const { model, runs } = await openCounted(t);
    const cache = createTextCache(model, 2);
    const encode = async (prompt: string) => {
      const before = runs();
      const { fromCache, positive } = await cache.encode(ask(prompt));
      return { fromCache, runs: runs() - before, positive };
    };
    const first = await encode('a red circle');
    t.match(first, { fromCache: false, runs: 3 }, 'one run an encoder, one for the pooled vector');
    const again = await encode('a red circle');
    t.match(again, { fromCache: true, runs: 0 });
    t.equal(again.positive, first.positive);
    t.match(await encode('a blue square'), { runs: 3 });
    t.match(await encode('a red circle'), { fromCache: true });
    t.match(await encode('a green star'), { runs: 3 });
    t.match(await encode('a red circle'), { fromCache: true }, 'used since');
    t.match(await encode('a blue square'), { fromCache: false }, 'pushed out');
    t.same(cache.use(), { entries: 2, capacity: 2, hits: 3, misses: 4 });
  },
);

void t.test('all that changes the embedding is told apart', async (t) => {
  const { model } = await openCounted(t);
  const cache = createTextCache(model);
  const kinds = [
    ask('(red:1.2)'),
    ask('(red:1.2)', { parseWeights: false }),
    ask('(red:1.2)', { negativePrompt: '' }),
    ask('(red:1.2)', { negativePrompt: 'blue' }),
    ask('(red:1.2)', { weights: [{ text: 'red', weight: 0.8 }] }),
  ];
  for (const kind of kinds) t.equal((await cache.encode(kind)).fromCache, false);
  for (const kind of kinds) t.equal((await cache.encode(kind)).fromCache, true);
});

void t.test('a decoder that overflows is reported with its cure, never a black picture', async (t) => {
  const { model } = await openCounted(t);
  for (const value of [NaN, Infinity]) {
    const overflowing = {
      ...model,
      vaeDecoder: {
        ...model.vaeDecoder,
        run: () =>
          Promise.resolve({ sample: { data: Float32Array.of(0.5, value, 0.1), dims: [1, 3, 1, 1] } }),
      },
    } as unknown as SdxlModel;
    await t.rejects(
      decodeToFloats(
        overflowing,
        new Float32Array(model.latentChannels * 64),
        8 * model.vaeScale,
        8 * model.vaeScale,
      ),
      { code: 'engine_failed', message: /overflowed.*fp16-fix/ },
    );
  }
});
