/** Pictures of this machine as references, by the command line against the real service. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import t from 'tap';
import { exitCodes } from '../../src/cli/output.js';
import { startCli } from '../cli/support.js';
import { startService } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';

t.setTimeout(240_000);

interface Drawn {
  id: string;
  status: string;
  files: string[];
  metadata: { reference_mode: string; reference_strength: number };
}

t.test('ourvidz generate --reference FILE', async (t) => {
  const service = await startService({ env: { MODELS_DIR: await onlyTinySdxl(t) } });
  t.teardown(() => service.cleanUp());
  const folder = t.testdir({});
  await sharp({ create: { width: 96, height: 64, channels: 3, background: 'green' } })
    .jpeg()
    .toFile(path.join(folder, 'sketch.jpg'));
  const generate = (...args: string[]) =>
    startCli(['generate', 'a red circle', '--json', '--width', '64', '--height', '64', ...args], folder, {
      OURVIDZ_URL: service.baseUrl,
      WAN_WORKER_API_KEY: service.apiKey,
    }).done;
  const jobs = async () => ((await service.getJson('/jobs')) as { jobs: unknown[] }).jobs.length;

  const { code, stdout, stderr } = await generate(
    ...['--reference', 'sketch.jpg', '--reference-type', 'composition', '--reference-strength', '0.6'],
  );
  t.equal(code, 0, stderr);
  const drawn = JSON.parse(stdout) as Drawn;
  t.match(drawn, {
    status: 'completed',
    metadata: {
      reference_mode: 'composition',
      reference_strength: 0.6,
      // What the file became there is what the job names.
      request: { reference_image_url: /^reference_images\// },
    },
  });
  t.ok(existsSync(path.resolve(folder, drawn.files[0] ?? '')));

  const second = await generate('--reference', `asset:${drawn.id}/0`);
  t.equal(second.code, 0, second.stderr);
  t.match(JSON.parse(second.stdout), {
    metadata: { request: { reference_image_url: `asset:${drawn.id}/0` } },
  });

  const before = await jobs();
  const missing = await generate('--reference', 'nowhere.png');
  t.equal(missing.code, exitCodes.usage);
  t.match(missing.stderr, 'There is no file nowhere.png');
  const noFile = await generate('--reference', folder);
  t.equal(noFile.code, exitCodes.usage);
  t.match(noFile.stderr, /^EISDIR keeps from reading the file/, 'and no stack is shown');
  t.equal(await jobs(), before, 'no job was made of either');
});
