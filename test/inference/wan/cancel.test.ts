import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { ownProgram } from '../../../src/lib/processes.js';
import type { EngineEvent } from '../../../src/inference/engine-protocol.js';
import { createWanEngine } from '../../../src/inference/wan/engine.js';
import { requireCommand } from '../../helpers/requirements.js';
import { childrenOf } from './processes.js';
import {
  cancelPoints,
  longClip,
  recordingContext,
  temporaryFolder,
  tinyFolder,
  wanParams,
} from './support.js';

const skip =
  requireCommand('ffmpeg') ||
  requireCommand('ffprobe') ||
  (process.platform === 'linux' ? false : 'reads /proc');

async function openEngine(t: Test) {
  const engine = createWanEngine();
  await engine.load({ modelDir: tinyFolder, device: 'cpu', threads: 1 }, () => {});
  t.teardown(() => engine.unload());
  const generate = engine.methods['wan.generate'];
  if (generate === undefined) throw new Error('the engine has no wan.generate');
  return generate;
}

t.test(
  'cancelled in any stage: ends within a step, and leaves no process and no file',
  { skip },
  async (t) => {
    const generate = await openEngine(t);
    for (const [stage, step] of cancelPoints) {
      const outputDir = await temporaryFolder(t);
      const after: string[] = [];
      let isCancelled = false;
      const context = recordingContext((event: EngineEvent, cancel) => {
        if (event.kind !== 'progress') return;
        if (isCancelled) after.push(`${event.stage} ${event.step}`);
        if (event.stage !== stage || event.step !== step) return;
        isCancelled = true;
        cancel();
      });
      await t.rejects(
        generate(wanParams(outputDir, longClip), context),
        { code: 'cancelled' },
        `${stage} ${step}`,
      );
      t.ok(
        after.length <= 1,
        `${stage} ${step}: at most the step in progress is finished, not ${after.join(', ')}`,
      );
      t.same(await readdir(outputDir), [], `${stage} ${step}: no file`);
      t.notOk(
        childrenOf().some(({ name }) => name === 'ffmpeg'),
        `${stage} ${step}: no encoder`,
      );
    }
    const { frames } = await generate(wanParams(await temporaryFolder(t), { frames: 5 }), recordingContext());
    t.equal(frames, 5, 'the engine goes on working');
  },
);

t.test('cancelled over and over: no memory is left behind', { skip }, async (t) => {
  const rounds = 4;
  // the C library otherwise keeps as much of what it was given back as it likes
  const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '65536' };
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...ownProgram('test/inference/wan/cancelled-memory'), String(rounds)],
    { env },
  );
  const after = JSON.parse(stdout) as Array<{ tensors: number; process: number }>;
  t.equal(after.length, rounds + 1);
  const grown = (what: 'tensors' | 'process') =>
    (after.at(-1)?.[what] as number) - (after[0]?.[what] as number);
  // one chunk of four frames that every cancelled clip left behind would be 16 MB
  t.ok(grown('tensors') < 4e6, `tensors: ${after.map(({ tensors }) => tensors).join(' ')} bytes`);
  // and its sets of caches, where V8 does not count them, some 90 MB
  t.ok(grown('process') < 50e6, `process: ${after.map((each) => each.process).join(' ')} bytes`);
});

t.test('cancelled before it begins: nothing is computed', async (t) => {
  const generate = await openEngine(t);
  const context = recordingContext((_event, cancel) => {
    cancel();
  });
  context.emit({ kind: 'computeDone' });
  await t.rejects(generate(wanParams(await temporaryFolder(t), { output: 'image', frames: 1 }), context), {
    code: 'cancelled',
  });
  t.equal(context.events.length, 1, 'no progress');
});
