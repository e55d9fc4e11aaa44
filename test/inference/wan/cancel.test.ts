import { readdir } from 'node:fs/promises';
import t from 'tap';
import type { EngineEvent } from '../../../src/inference/engine-protocol.js';
import { createWanEngine } from '../../../src/inference/wan/engine.js';
import { requireCommand } from '../../helpers/requirements.js';
import { childrenOf } from './processes.js';
import { recordingContext, temporaryFolder, tinyFolder, wanParams } from './support.js';

const skip =
  requireCommand('ffmpeg') ||
  requireCommand('ffprobe') ||
  (process.platform === 'linux' ? false : 'reads /proc');

t.test(
  'cancelled in any stage: ends within a step, and leaves no process, no file and no memory',
  { skip },
  async (t) => {
    const engine = createWanEngine();
    await engine.load({ modelDir: tinyFolder, device: 'cpu', threads: 1 }, () => {});
    t.teardown(() => engine.unload());
    const generate = engine.methods['wan.generate'];
    if (generate === undefined) throw new Error('the engine has no wan.generate');
    const size = { width: 128, height: 128, frames: 41, steps: 3 };
    const held = () => {
      const { rss, arrayBuffers } = process.memoryUsage();
      return { rss, arrayBuffers };
    };
    // what one whole job leaves behind is what the engine needs at rest: the encoded texts and what the
    // runtime prepared
    await generate(wanParams(await temporaryFolder(t), size), recordingContext());
    const idle = held();

    for (const [stage, step] of [
      ['text', 0],
      ['denoise', 1],
      ['decode', 0],
      ['decode', 4],
      ['encode', 0],
    ] as const) {
      const outputDir = await temporaryFolder(t);
      const after: string[] = [];
      let cancelledAt = 0;
      const context = recordingContext((event: EngineEvent, cancel) => {
        if (event.kind !== 'progress') return;
        if (cancelledAt > 0) after.push(`${event.stage} ${event.step}`);
        if (event.stage !== stage || event.step !== step || cancelledAt > 0) return;
        cancelledAt = performance.now();
        cancel();
      });
      await t.rejects(
        generate(wanParams(outputDir, size), context),
        { code: 'cancelled' },
        `${stage} ${step}`,
      );
      const now = held();
      t.ok(
        after.length <= 1,
        `${stage} ${step}: at most the step in progress is finished, not ${after.join(', ')}`,
      );
      t.same(await readdir(outputDir), [], `${stage} ${step}: no file`);
      t.notOk(
        childrenOf().some(({ name }) => name === 'ffmpeg'),
        `${stage} ${step}: no encoder`,
      );
      t.ok(
        now.arrayBuffers - idle.arrayBuffers < 4e6,
        `${stage} ${step}: ${idle.arrayBuffers} bytes of tensors at rest, ${now.arrayBuffers} now`,
      );
      // the C library keeps freed pages as it likes; a clip's two sets of caches, leaked by every stage,
      // would be half as much again
      t.ok(now.rss < 1.3 * idle.rss, `${stage} ${step}: ${idle.rss} bytes at rest, ${now.rss} now`);
    }
    const { frames } = await generate(wanParams(await temporaryFolder(t), { frames: 5 }), recordingContext());
    t.equal(frames, 5, 'the engine goes on working');
  },
);

t.test('cancelled before it begins: nothing is computed', async (t) => {
  const engine = createWanEngine();
  await engine.load({ modelDir: tinyFolder, device: 'cpu', threads: 1 }, () => {});
  t.teardown(() => engine.unload());
  const context = recordingContext((_event, cancel) => {
    cancel();
  });
  context.emit({ kind: 'computeDone' });
  const generate = engine.methods['wan.generate'];
  if (generate === undefined) throw new Error('the engine has no wan.generate');
  await t.rejects(generate(wanParams(await temporaryFolder(t), { output: 'image', frames: 1 }), context), {
    code: 'cancelled',
  });
  t.equal(context.events.length, 1, 'no progress');
});
