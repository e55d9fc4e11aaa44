/**
 * Program of the cancellation test: `node cancelled-memory.js ROUNDS` cancels clips at each of the points of
 * `cancelPoints` and prints the bytes held at first, after a whole clip, and after each round.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { cancelPoints, heldBytes, longClip, recordingContext, tinyFolder, wanParams } from './support.js';
import { createWanEngine } from '../../../src/inference/wan/engine.js';

const rounds = Number(process.argv[2]);
const engine = createWanEngine();
await engine.load({ modelDir: tinyFolder, device: 'cpu', threads: 1 }, () => {});

/** A clip cancelled at a point; a whole one without. */
async function generate(point?: readonly [stage: string, step: number]): Promise<void> {
  const outputDir = await mkdtemp(path.join(tmpdir(), 'cancelled-memory-'));
  const context = recordingContext((event, cancel) => {
    if (event.kind === 'progress' && event.stage === point?.[0] && event.step === point[1]) cancel();
  });
  const ended = await engine.methods['wan.generate']?.(wanParams(outputDir, longClip), context).then(
    () => 'finished',
    ({ code }: { code?: string }) => code,
  );
  if (ended !== (point === undefined ? 'finished' : 'cancelled')) throw new Error(`it ended as ${ended}`);
  await rm(outputDir, { recursive: true, force: true });
}

await generate();
const after = [await heldBytes()];
for (let round = 0; round < rounds; round += 1) {
  for (const point of cancelPoints) await generate(point);
  after.push(await heldBytes());
}
process.stdout.write(JSON.stringify(after));
