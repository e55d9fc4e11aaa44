import t from 'tap';
import { sdxlPayload, submit, waitForJob, wanPayload } from '../helpers/jobs.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(600_000);

t.test('an instance with COMPEL and ENHANCE off goes on without them, and says so', async (t) => {
  const service = await startService({ env: { COMPEL: 'off', ENHANCE: 'off' } });
  t.teardown(() => service.cleanUp());
  const { features_off: off } = (await service.getJson('/capabilities')) as {
    features_off: Array<{ feature: string; reason: string }>;
  };
  for (const [feature, reason] of [
    ['compel', /COMPEL/],
    ['enhancement', /ENHANCE/],
    ['qwen', /ENHANCE=off/],
  ] as const)
    t.match(off.find((one) => one.feature === feature)?.reason, reason, feature);

  const answer = await service.send('POST', '/enhance', { prompt: 'a red circle' });
  t.equal(answer.status, 503);
  t.match(await answer.json(), {
    success: false,
    error: /^Enhancement failed: .*ENHANCE=off/,
    enhanced_prompt: 'a red circle',
  });
  const test = await service.send('POST', '/test-compel', {
    prompt: '(red:1.3) circle',
    compel_weights: '(sea:1.2)',
  });
  t.match(await test.json(), {
    compel_success: false,
    enhancement_strategy: 'none',
    compel_error: /COMPEL=off/,
    parsed_weights: [],
  });

  const weighted = sdxlPayload({ config: { seed: 7, width: 64, height: 64 } });
  await submit(service, Object.assign(weighted, { compel_enabled: true, compel_weights: '(red:1.3)' }));
  t.match(await waitForJob(service, weighted.id, undefined, 300_000), {
    status: 'completed',
    metadata: { compel_enabled: false, compel_weights: null, compel_error: /COMPEL=off/ },
  });
  const prompt = 'a red circle';
  const enhanced = wanPayload({
    type: 'image7b_fast_enhanced',
    prompt,
    config: { sample_steps: 2, size: '64*64' },
  });
  await submit(service, enhanced);
  t.match(await waitForJob(service, enhanced.id, undefined, 300_000), {
    status: 'completed',
    metadata: { enhancement_success: false, enhancement_reason: /ENHANCE=off/, enhanced_prompt: prompt },
  });
  t.match(await service.getJson('/health'), { status: 'healthy', qwen_loaded: false });
});
