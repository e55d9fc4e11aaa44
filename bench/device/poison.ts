/**
 * Breaks the CUDA context of an engine that draws, and looks at what the service makes of it: the job is drawn
 * again by a fresh process. `poison.sh` builds what breaks it.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { startService } from './service.js';

const { values } = parseArgs({ options: { models: { type: 'string' }, out: { type: 'string' } } });
const { models, out } = values;
const { CUDA_POISON_FILE: trigger, CUDA_POISON_LIBRARY: library } = process.env;
if (models === undefined || out === undefined || trigger === undefined || library === undefined)
  throw new Error('run bench/device/poison.sh');

const service = await startService(
  { MODELS_DIR: models, ORT_DEVICE: 'cuda', LD_PRELOAD: library, CUDA_POISON_FILE: trigger },
  path.join(out, 'poison-service.log'),
  Date.now() + 100_000,
);
try {
  const { seconds: readySeconds } = await service.ready('sdxl');
  const config = { num_images: 1, seed: 7 };
  const before = await service.run('sdxl_image_high', config, 'before');
  const sentAt = performance.now();
  const id = await service.submit('sdxl_image_high', config, 'meanwhile');
  for (;;) {
    const { status } = await service.call<{ status: string }>(`/jobs/${id}`);
    if (status !== 'queued') break;
  }
  writeFileSync(trigger, '');
  const meanwhile = await service.finished(id, sentAt);
  const after = await service.run('sdxl_image_high', config, 'after');
  const report = JSON.stringify({ ready_seconds: readySeconds, before, meanwhile, after }, null, 2);
  writeFileSync(path.join(out, 'poison.json'), `${report}\n`);
  process.stdout.write(`${report}\n`);
  if ([before, meanwhile, after].some(({ status }) => status !== 'completed')) process.exitCode = 1;
} finally {
  await service.stop();
}
