import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { startEngineChild, type EngineChild } from '../../helpers/engine-child.js';
import { requireCommand } from '../../helpers/requirements.js';
import { until } from '../../engines/support.js';
import { childrenOf, isAlive } from './processes.js';
import { temporaryFolder, tinyFolder, wanParams } from './support.js';

const skip =
  requireCommand('ffmpeg') ||
  requireCommand('ffprobe') ||
  (process.platform === 'linux' ? false : 'reads /proc');

function startEngine(t: Test): EngineChild {
  const engine = startEngineChild('wan');
  t.teardown(() => engine.kill());
  return engine;
}

t.test('load, warm-up, clip, cancel, clip: through the engine process', { skip }, async (t) => {
  const engine = startEngine(t);
  const pid = engine.child.pid as number;
  await t.rejects(engine.ask('wan.generate', wanParams(await temporaryFolder(t))), { code: 'not_loaded' });
  await t.rejects(engine.ask('load', { modelDir: await temporaryFolder(t), device: 'cpu', threads: 1 }), {
    code: 'model_missing',
    message: /transformer\/model.onnx/,
  });
  const loaded = await engine.ask('load', { modelDir: tinyFolder, device: 'cpu', threads: 1 });
  t.match(loaded, {
    device: 'cpu',
    model: { name: 'wan-tiny', defaultWidth: 64, defaultHeight: 64, defaultFrames: 17, sizeMultiple: 16 },
  });
  t.ok(
    ['text_to_video', 'vae_encoder', 'latent_overwrite', 'video_encoder'].every((feature) =>
      loaded.model.features.includes(feature),
    ),
    loaded.model.features.join(),
  );
  await engine.ask('warmUp', {});

  const events: string[] = [];
  const outputDir = await temporaryFolder(t);
  const result = await engine.ask(
    'wan.generate',
    wanParams(outputDir, { steps: 4, previewEverySteps: 2 }),
    (event) => {
      events.push(event.kind === 'progress' ? event.stage : event.kind);
      if (event.kind === 'preview') t.ok(existsSync(event.path), 'a preview is there when it is told');
    },
  );
  t.equal(result.files[0]?.frames, 9);
  t.ok(events.includes('preview'), 'warm-up has fitted the previews');
  t.ok(
    events.indexOf('computeDone') > events.lastIndexOf('decode') &&
      events.indexOf('computeDone') < events.indexOf('encode'),
    'the device is free when the last frame is decoded',
  );
  t.equal((await readdir(outputDir)).length, 3, 'clip, poster, preview');

  const atRest = childrenOf(pid);
  for (const stage of ['denoise', 'decode', 'encode'] as const) {
    const folder = await temporaryFolder(t);
    let encoders: string[] = [];
    const asked = engine.ask(
      'wan.generate',
      wanParams(folder, { frames: 41, width: 96, height: 96 }),
      (event, id) => {
        if (event.kind !== 'progress' || event.stage !== stage) return;
        encoders = childrenOf(pid).map(({ name }) => name);
        engine.cancel(id);
      },
    );
    await t.rejects(asked, { code: 'cancelled' }, stage);
    if (stage === 'decode')
      t.ok(encoders.includes('ffmpeg'), 'frames go into the encoder while later ones are decoded');
    t.same(childrenOf(pid), atRest, `${stage}: the engine has no process left`);
    t.same(await readdir(folder), [], `${stage}: and no file`);
  }
  t.equal(
    (
      await engine.ask(
        'wan.generate',
        wanParams(await temporaryFolder(t), { output: 'image', frames: 1, seed: 7 }),
      )
    ).frames,
    1,
    'it goes on working',
  );
});

t.test('an engine that is killed takes its encoder with it', { skip }, async (t) => {
  const engine = startEngine(t);
  await engine.ask('load', { modelDir: tinyFolder, device: 'cpu', threads: 1 });
  let encoder: number | undefined;
  void engine.ask(
    'wan.generate',
    wanParams(await temporaryFolder(t), { frames: 81, width: 96, height: 96, steps: 1 }),
    (event) => {
      if (event.kind === 'progress' && event.stage === 'decode' && event.step === 3)
        encoder = childrenOf(engine.child.pid).find(({ name }) => name === 'ffmpeg')?.pid;
    },
  );
  await until('decoding', () => encoder !== undefined, 60_000);
  engine.child.kill('SIGKILL');
  await until('the encoder has ended', () => !isAlive(encoder as number));
  t.notOk(isAlive(encoder as number));
});
