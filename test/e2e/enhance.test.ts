/**
 * From a short prompt to a picture: POST /enhance, then POST /jobs with its answer, on the models that ship
 * with the service.
 */
import sharp from 'sharp';
import t from 'tap';
import { judge, type HeldOut } from '../../tools/pocket-check/judge.js';
import { getJob, readAsset, sdxlPayload, submit, waitForJob, wanPayload } from '../helpers/jobs.js';
import { childProcesses } from '../helpers/processes.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);
const service = await startService();
t.teardown(() => service.cleanUp());

interface Enhanced {
  success: boolean;
  enhanced_prompt: string;
  original_prompt: string;
  enhancement_source: string;
  model: string;
  completion_tokens: number;
}
const enhance = async (body: Record<string, unknown>): Promise<Enhanced> => {
  const answer = await service.send('POST', '/enhance', body);
  t.equal(answer.status, 200, JSON.stringify(body));
  return (await answer.json()) as Enhanced;
};
const qwenLoaded = async () => ((await service.getJson('/health')) as { qwen_loaded: boolean }).qwen_loaded;

/**
 * What an enhanced prompt of the pocket world says about one object, as the judge of pictures understands it.
 */
function statedIn(prompt: string, colour: string, shape: string): { item: HeldOut; details: number } {
  const size = /\b(small|large)\b/.exec(prompt)?.[1];
  const place = /in the centre/.test(prompt)
    ? 'centre'
    : /\b(?:at|on) the (left|right|top|bottom)\b(?! (?:left|right))/.exec(prompt)?.[1];
  const background = /(\w+) background/.exec(prompt)?.[1];
  const details = [size, place, background].filter((each) => each !== undefined).length;
  return {
    item: {
      kind: 'one',
      prompt,
      objects: [{ colour, shape, size: size ?? null, place: place ?? null }],
      ...(background === undefined ? {} : { background }),
    },
    details,
  };
}

t.test('what Qwen adds to a prompt is in the picture', async (t) => {
  t.equal(await qwenLoaded(), false, 'the model comes with the first request');
  const verdicts: Array<{ prompt: string; wrong: string[] }> = [];
  for (const [index, [colour, shape]] of (
    [
      ['red', 'circle'],
      ['blue', 'square'],
      ['green', 'star'],
      ['yellow', 'circle'],
      ['purple', 'square'],
    ] as const
  ).entries()) {
    const { enhanced_prompt: prompt, ...answer } = await enhance({
      prompt: `a ${colour} ${shape}`,
      target: 'image',
      seed: index,
    });
    t.match(answer, {
      success: true,
      original_prompt: `a ${colour} ${shape}`,
      enhancement_source: 'qwen_base',
    });
    const { item, details } = statedIn(prompt, colour, shape);
    t.ok(prompt.includes(colour) && prompt.includes(shape) && details >= 2, `${prompt}: ${details} details`);
    const job = await waitForJob(
      service,
      await submit(service, sdxlPayload({ prompt, config: { num_images: 1, seed: 7 } })),
    );
    t.equal(job.status, 'completed');
    const { data, info } = await sharp(await readAsset(service, job.assets[0] ?? ''))
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    verdicts.push({ prompt, wrong: judge(item, { data, width: info.width, height: info.height }) });
  }
  t.equal(await qwenLoaded(), true);
  const right = verdicts.filter(({ wrong }) => wrong.length === 0).length;
  t.ok(right >= 4, `${right} of 5 pictures show all that was added: ${JSON.stringify(verdicts)}`);
});

t.test('a conversation changes what it is asked to', async (t) => {
  const ask = (prompt: string) =>
    enhance({ prompt, model: 'qwen_instruct', session_id: 's', temperature: 0 });
  t.match(await ask('a large red circle'), {
    enhancement_source: 'qwen_instruct',
    enhanced_prompt: /large red circle/,
  });
  t.match((await ask('make it blue')).enhanced_prompt, /large blue circle/);
  t.equal((await service.send('DELETE', '/enhance/sessions/s')).status, 204);
});

t.test('a stream ends with the answer; callers that leave do not keep others waiting', async (t) => {
  const body = await (
    await service.send('POST', '/enhance', { prompt: 'a red circle', stream: true })
  ).text();
  t.match(body, /event: token\ndata: /);
  t.match(body, /event: done\ndata: \{"success":true/);
  for (let left = 0; left < 20; left += 1) {
    const leaving = new AbortController();
    const response = await fetch(`${service.baseUrl}/enhance`, {
      method: 'POST',
      signal: leaving.signal,
      headers: { authorization: `Bearer ${service.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'a red circle', stream: true }),
    });
    await response.body?.getReader().read();
    leaving.abort();
  }
  t.match(await enhance({ prompt: 'a blue square' }), { success: true });
});

t.test('qwen_loaded is the truth: killed, idle, and loaded ahead for a job that waits', async (t) => {
  const engine = () => childProcesses(service.pid()).find(({ command }) => / qwen\b/.test(command));
  t.equal(await qwenLoaded(), true);
  process.kill(engine()?.pid ?? 0, 'SIGKILL');
  await waitFor(async () => !(await qwenLoaded()), {
    what: 'the killed model is not called loaded',
    timeoutMs: 5000,
  });
  t.match(await enhance({ prompt: 'a red circle' }), { success: true }, 'and comes back');

  const own = await startService({ env: { ENHANCE_IDLE_SECONDS: '1' } });
  t.teardown(() => own.cleanUp());
  const loaded = async () => ((await own.getJson('/health')) as { qwen_loaded: boolean }).qwen_loaded;
  t.equal(await loaded(), false);
  const running = await submit(own, wanPayload({ type: 'video_high', config: { seed: 1 } }));
  await waitForJob(own, running, (job) => job.progress.stage === 'denoise');
  const waiting = await submit(own, wanPayload({ type: 'image7b_fast_enhanced', prompt: 'a red circle' }));
  await waitFor(loaded, { what: 'the model, before its job begins', timeoutMs: 30_000 });
  t.not((await getJob(own, running)).status, 'completed', 'another job still computes');
  await own.send('DELETE', `/jobs/${running}`);
  const { status, metadata } = await waitForJob(own, waiting);
  t.match([status, metadata], ['completed', { enhancement_source: 'qwen_base' }]);
  await waitFor(async () => !(await loaded()), { what: 'an idle model goes', timeoutMs: 10_000 });
});
