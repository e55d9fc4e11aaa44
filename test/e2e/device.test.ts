/** The device an engine took, and why not a faster one, as operators read it. */
import t from 'tap';
import { startService } from '../helpers/service-process.js';

t.setTimeout(120_000);

interface Capabilities {
  engines: Record<string, { device: string | null; device_notes: string[] }>;
}
interface Validation {
  details: {
    findings: Array<{ check: string; subject: string; severity: string; message: string; cure?: string }>;
  };
}

t.test('/capabilities and /worker/validate tell the device and every one that was not taken', async (t) => {
  const service = await startService({ env: { ORT_DEVICE: 'auto' } });
  t.teardown(() => service.cleanUp());
  const { engines } = (await (await service.get('/capabilities')).json()) as Capabilities;
  const sdxl = engines['sdxl'];
  const order = ['cuda', 'webgpu', 'cpu'];
  t.ok(order.includes(sdxl?.device ?? ''), `sdxl runs on ${sdxl?.device}`);
  t.equal(sdxl?.device_notes.length, order.indexOf(sdxl?.device ?? ''), 'one note for each faster device');
  const { details } = (await (await service.get('/worker/validate')).json()) as Validation;
  for (const note of sdxl?.device_notes ?? [])
    t.match(
      details.findings.find(({ subject, message }) => subject === 'sdxl engine' && message === note),
      { check: 'gpu_availability', severity: 'warning', cure: String },
    );
  t.match(
    details.findings.find(({ check, subject }) => check === 'model_paths' && subject === 'sdxl engine')
      ?.message,
    new RegExp(`on ${sdxl?.device} `),
  );
});
