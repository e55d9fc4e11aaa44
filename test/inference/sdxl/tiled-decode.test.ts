import path from 'node:path';
import t from 'tap';
import { toPlanes, type Picture } from '../../../src/inference/diffusion/pictures.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { openSdxlModel, type SdxlModel } from '../../../src/inference/sdxl/model.js';
import { decodeTiled } from '../../../src/inference/sdxl/tiled-decode.js';
import { decodeLatents, decodeToFloats, encodePicture } from '../../../src/inference/sdxl/vae.js';
import { projectRoot } from '../../../src/lib/project.js';

const openPocket = () =>
  openSdxlModel(path.join(projectRoot(), 'models/pocket/sdxl'), { device: 'cpu', threads: 2 });

/** Blue discs on white, everywhere: edges and plain ground in every tile. */
function scene(side: number): Picture {
  const data = new Uint8Array(side * side * 3).fill(255);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1)
      if (Math.hypot((x % 96) - 48, (y % 96) - 48) < 30) data.set([40, 80, 220], (y * side + x) * 3);
  }
  return { data, width: side, height: side };
}

const sceneLatents = (model: SdxlModel, side: number) =>
  encodePicture(model, scene(side), createGenerator(3));

void t.test('tiles with a decoder that looks at one latent only give the whole exactly', async (t) => {
  const [channels, height, width, scale] = [4, 23, 37, 2];
  const latents = createGenerator(1).randn(channels * height * width);
  const decode = (part: Float32Array, { width: w, height: h }: { width: number; height: number }) => {
    const out = new Float32Array(3 * w * h * scale * scale);
    for (let c = 0; c < 3; c += 1)
      for (let y = 0; y < h * scale; y += 1)
        for (let x = 0; x < w * scale; x += 1)
          out[(c * h * scale + y) * w * scale + x] = part[
            (c * h + Math.floor(y / scale)) * w + Math.floor(x / scale)
          ] as number;
    return Promise.resolve(out);
  };
  const whole = await decode(latents, { width, height });
  for (const options of [
    { tile: 8, overlap: 2 },
    { tile: 16, overlap: 4 },
    { tile: 64, overlap: 16 },
    { tile: 10, overlap: 5 },
  ]) {
    const tiled = await decodeTiled(latents, { channels, height, width, scale }, options, decode);
    t.ok(
      tiled.every((value, i) => Math.abs(value - (whole[i] as number)) < 1e-5),
      `tile ${options.tile}, overlap ${options.overlap}`,
    );
  }
});

void t.test('a picture decoded in tiles shows no seams', async (t) => {
  const model = await openPocket();
  t.teardown(() => model.release());
  const side = 512;
  const latents = await sceneLatents(model, side);
  const whole = await decodeToFloats(model, latents, side, side);
  const shape = {
    channels: model.latentChannels,
    width: side / model.vaeScale,
    height: side / model.vaeScale,
    scale: model.vaeScale,
  };
  const tiled = await decodeTiled(latents, shape, { tile: 32, overlap: 8 }, (part, tile) =>
    decodeToFloats(model, part, tile.width * model.vaeScale, tile.height * model.vaeScale),
  );
  const truth = toPlanes(scene(side));
  /**
   * Mean extra step between neighbouring columns, against the true picture, in levels of 255: where tiles
   * overlap, and elsewhere.
   */
  const steps = (pixels: Float32Array) => {
    const sums = { seams: [0, 0] as [number, number], elsewhere: [0, 0] as [number, number] };
    for (let x = 0; x + 1 < side; x += 1) {
      // tiles of 256 pixels start every 192 and the last one at 256: 192..256 and 256..448 are shared
      const sum = x >= 180 && x < 460 ? sums.seams : sums.elsewhere;
      for (let row = 0; row < 3 * side; row += 1) {
        const at = row * side + x;
        sum[0] +=
          Math.abs(
            (pixels[at + 1] as number) -
              (truth[at + 1] as number) -
              ((pixels[at] as number) - (truth[at] as number)),
          ) * 127.5;
        sum[1] += 1;
      }
    }
    return { seams: sums.seams[0] / sums.seams[1], elsewhere: sums.elsewhere[0] / sums.elsewhere[1] };
  };
  const [tiledSteps, wholeSteps] = [steps(tiled), steps(whole)];
  t.comment({ tiledSteps, wholeSteps });
  t.ok(
    tiledSteps.seams / tiledSteps.elsewhere < 1.05 * (wholeSteps.seams / wholeSteps.elsewhere),
    'no rougher where tiles meet than the whole picture is there',
  );
});

void t.test('a decoder without room for the whole picture decodes it in tiles', async (t) => {
  const model = await openPocket();
  t.teardown(() => model.release());
  const side = 640;
  const latents = await sceneLatents(model, side);
  const sizes: number[] = [];
  const cramped: SdxlModel = {
    ...model,
    vaeDecoder: {
      ...model.vaeDecoder,
      run: (feeds, outputs) => {
        const extent = feeds['latent_sample']?.dims[3] ?? 0;
        sizes.push(extent);
        return extent > 64
          ? Promise.reject(new Error('Failed to allocate memory for requested buffer'))
          : model.vaeDecoder.run(feeds, outputs);
      },
    },
  };
  const picture = await decodeLatents(cramped, latents, side, side);
  t.same(sizes, [80, 64, 64, 64, 64]);
  t.equal(picture.data.length, side * side * 3);
});
