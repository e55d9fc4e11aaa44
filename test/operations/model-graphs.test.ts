import { cp, mkdir, open, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { problemsOfGraphs } from '../../src/services/operations/model-graphs.js';
import { readGraphFacts } from '../../src/services/operations/onnx-graph.js';
import { onnxFile } from './onnx-file.js';

const tiny = (name: string) => path.join(projectRoot(), 'test/parity/models', name);
const pocket = (name: string) => path.join(projectRoot(), 'models/pocket', name);

async function copyOfPocket(t: Test): Promise<string> {
  const folder = path.join(t.testdir({}), 'sdxl');
  await cp(pocket('sdxl'), folder, { recursive: true, dereference: true });
  return folder;
}

t.test('the models of this repository are right, and their borders are read as they are', async (t) => {
  for (const [engine, folder] of [
    ['sdxl', pocket('sdxl')],
    ['wan', tiny('wan-tiny')],
    ['wan', pocket('wan')],
  ] as const)
    t.same(await problemsOfGraphs(engine, folder), [], folder);
  const unet = await readGraphFacts(path.join(pocket('sdxl'), 'unet/model.onnx'));
  t.same(unet.inputs.get('sample'), { type: 'float32', shape: ['batch', 4, 'height', 'width'] });
  t.same(unet.inputs.get('timestep'), { type: 'float32', shape: [] });
  t.same([...unet.inputs.keys()].slice(0, 5), [
    'sample',
    'timestep',
    'encoder_hidden_states',
    'text_embeds',
    'time_ids',
  ]);
  t.same([...unet.outputs.keys()], ['out_sample']);
});

t.test(
  'a file of something else, a graph of another kind, a file cut short, files of two models',
  async (t) => {
    const folder = await copyOfPocket(t);
    await writeFile(path.join(folder, 'vae_decoder/model.onnx'), '<html>not found</html>');
    t.match(await problemsOfGraphs('sdxl', folder), [/vae_decoder\/model\.onnx is no ONNX graph/]);
    await cp(path.join(folder, 'text_encoder/model.onnx'), path.join(folder, 'vae_decoder/model.onnx'));
    t.match(await problemsOfGraphs('sdxl', folder), [
      /has no input latent_sample; it has input_ids/,
      /has no output sample; it has last_hidden_state/,
    ]);
    const file = path.join(folder, 'vae_decoder/model.onnx');
    await cp(path.join(pocket('sdxl'), 'vae_decoder/model.onnx'), file);
    for (const bytes of [10, 200_000]) {
      const handle = await open(file, 'r+');
      await handle.truncate((await handle.stat()).size - bytes);
      await handle.close();
      t.match(await problemsOfGraphs('sdxl', folder), [/is cut short/]);
    }
    await cp(path.join(pocket('sdxl'), 'vae_decoder/model.onnx'), file);
    await writeFile(
      path.join(folder, 'unet/model.onnx'),
      onnxFile({
        inputs: {
          sample: [1, ['b', 4, 'h', 'w']],
          timestep: [1, []],
          encoder_hidden_states: [1, ['b', 's', 80]],
          text_embeds: [1, ['b', 48]],
          time_ids: [1, ['b', 6]],
        },
        outputs: { out_sample: [1, []] },
      }),
    );
    t.match(await problemsOfGraphs('sdxl', folder), [
      /width of the pooled text: 48 in unet\/model\.onnx, 192 in text_encoder_2/,
      /width of the text: 80 in unet\/model\.onnx, 320 in/,
    ]);
  },
);

t.test('types and ranks the engine cannot feed', async (t) => {
  const folder = await copyOfPocket(t);
  const write = (type: number, shape: Array<number | string>) =>
    writeFile(
      path.join(folder, 'vae_decoder/model.onnx'),
      onnxFile({ inputs: { latent_sample: [type, shape] }, outputs: { sample: [1, ['b', 3, 'h', 'w']] } }),
    );
  await write(10, ['b', 4, 'h', 'w']);
  t.same(await problemsOfGraphs('sdxl', folder), [], 'float16 is known');
  await write(7, ['b', 4, 'h', 'w']);
  t.match(await problemsOfGraphs('sdxl', folder), [
    /takes int64 as latent_sample; known are float32 and float16/,
  ]);
  await write(1, ['b', 4, 'f', 'h', 'w']);
  t.match(await problemsOfGraphs('sdxl', folder), [/takes latent_sample with 5 dimensions instead of 4/]);
  await write(1, ['b', 16, 'h', 'w']);
  t.match(await problemsOfGraphs('sdxl', folder), [
    /latent channels: 4 in unet\/model\.onnx, 16 in vae_decoder/,
  ]);
});

t.test('weights beside the graph: there, whole, real files', async (t) => {
  const folder = await copyOfPocket(t);
  const weights = path.join(folder, 'vae_decoder/model.onnx_data');
  await writeFile(
    path.join(folder, 'vae_decoder/model.onnx'),
    onnxFile({
      inputs: { latent_sample: [1, ['b', 4, 'h', 'w']] },
      outputs: { sample: [1, []] },
      external: [
        ['model.onnx_data', 0, 4096],
        ['model.onnx_data', 4096, 1000],
      ],
    }),
  );
  t.match(await problemsOfGraphs('sdxl', folder), [/needs model\.onnx_data beside it/]);
  await writeFile(weights, Buffer.alloc(5000));
  t.match(await problemsOfGraphs('sdxl', folder), [/needs 5096 bytes of model\.onnx_data, which has 5000/]);
  await writeFile(weights, Buffer.alloc(5096));
  t.same(await problemsOfGraphs('sdxl', folder), []);
  await mkdir(path.join(folder, 'elsewhere'));
  await writeFile(path.join(folder, 'elsewhere/data'), await readFile(weights));
  await rm(weights);
  await symlink('../elsewhere/data', weights);
  t.match(await problemsOfGraphs('sdxl', folder), [/as a real file/]);
});
