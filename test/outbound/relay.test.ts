import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { createCallbackRelay, type RelayOptions } from '../../src/services/outbound/callback-relay.js';
import { createCallbackSender, type Delivery } from '../../src/services/outbound/sender.js';
import { createEmbeddedStore } from '../../src/services/queue/embedded/store.js';
import type { CallbackEvent, OutboxEntry } from '../../src/services/queue/store-parts.js';
import { waitFor } from '../helpers/wait-for.js';
import { silentLog, startReceiver } from './support.js';

async function openOutbox(t: Test, folder?: string) {
  const place = folder ?? (await mkdtemp(path.join(tmpdir(), 'ourvidz-relay-')));
  const store = await createEmbeddedStore({ folder: place, retentionMs: 60_000 });
  let closed = false;
  const close = async () => {
    if (!closed) {
      closed = true;
      await store.close();
    }
  };
  t.teardown(async () => {
    await close();
    await rm(place, { recursive: true, force: true });
  });
  return { outbox: store.outbox, folder: place, close };
}

function startRelay(t: Test, options: Partial<RelayOptions> & Pick<RelayOptions, 'outbox'>) {
  const sender = options.sender ?? createCallbackSender({ timeoutMs: 1000 });
  const relay = createCallbackRelay({
    sender,
    workerId: 'w1',
    log: silentLog,
    backoff: { baseMs: 5, maxMs: 20, jitter: 0 },
    idleMs: 10,
    ...options,
  });
  relay.start();
  t.teardown(() => relay.stop(0));
  return relay;
}

let serial = 0;
function entry(
  url: string,
  jobId: string,
  event: CallbackEvent = 'completed',
  more: Partial<OutboxEntry> = {},
): OutboxEntry {
  const nowMs = Date.now();
  return {
    id: `${jobId}:${event}:${serial++}`,
    jobId,
    event,
    url,
    body: JSON.stringify({ job_id: jobId, event }),
    createdAtMs: nowMs,
    nextAttemptAtMs: nowMs,
    attempts: 0,
    ...more,
  };
}

void t.test('every callback is delivered once to a receiver that works', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.end();
  });
  const { outbox } = await openOutbox(t);
  const entries = Array.from({ length: 60 }, (_, index) => entry(receiver.url, `job-${index}`));
  for (const one of entries) await outbox.add(one);
  startRelay(t, { outbox });
  await waitFor(async () => (await outbox.pending()) === 0, { what: 'an empty outbox' });
  t.same(
    receiver.received.map(({ headers }) => headers['webhook-id']).sort(),
    entries.map(({ id }) => id).sort(),
  );
});

void t.test('a callback added later is sent at once', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.end();
  });
  const { outbox } = await openOutbox(t);
  const relay = startRelay(t, { outbox, idleMs: 60_000 });
  await outbox.add(entry(receiver.url, 'a'));
  relay.wake();
  await waitFor(() => receiver.received.length === 1, { what: 'the callback', timeoutMs: 5000 });
  t.pass('long before the relay would have looked again');
});

void t.test("a failing receiver gets every callback in the end, each job's in order", async (t) => {
  let failures = 0;
  const accepted: string[] = [];
  const receiver = await startReceiver(t, (response, { headers }) => {
    if (failures++ % 3 !== 2)
      return void (failures % 2 === 0 ? response.writeHead(503).end() : response.socket?.destroy());
    accepted.push(String(headers['webhook-id']));
    response.end();
  });
  const { outbox } = await openOutbox(t);
  const entries = Array.from({ length: 30 }, (_, index) =>
    entry(receiver.url, `job-${index % 5}`, 'progress'),
  );
  for (const one of entries) await outbox.add(one);
  startRelay(t, { outbox });
  await waitFor(async () => (await outbox.pending()) === 0, { what: 'an empty outbox' });
  for (let job = 0; job < 5; job += 1) {
    t.same(
      accepted.filter((id) => id.startsWith(`job-${job}:`)),
      entries.filter(({ jobId }) => jobId === `job-${job}`).map(({ id }) => id),
      `job ${job}`,
    );
  }
});

void t.test('a refused callback is kept as a dead one, with the answer, and can be sent again', async (t) => {
  let status = 410;
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(status).end('job_id is not known here');
  });
  const { outbox } = await openOutbox(t);
  const one = entry(receiver.url, 'a', 'failed');
  await outbox.add(one);
  const relay = startRelay(t, { outbox });
  await waitFor(async () => (await outbox.listDead(10)).length === 1, { what: 'a dead callback' });
  t.equal(receiver.received.length, 1, 'tried once');
  t.match(await outbox.listDead(10), [
    { id: one.id, body: one.body, attempts: 1, lastError: '410 job_id is not known here' },
  ]);
  t.equal(await outbox.pending(), 0);
  status = 200;
  t.equal(await outbox.retryDead(one.id), 1);
  relay.wake();
  await waitFor(async () => (await outbox.pending()) === 0 && receiver.received.length === 2, {
    what: 'the second delivery',
  });
  t.same(await outbox.listDead(10), []);
});

void t.test('a receiver that refuses this worker is told, asked again soon, and forgotten', async (t) => {
  let answer: [status: number, text: string] = [401, ''];
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(answer[0]).end(answer[1]);
  });
  const { outbox } = await openOutbox(t);
  let aheadMs = 0;
  const relay = startRelay(t, {
    outbox,
    receiver: receiver.url,
    backoff: { baseMs: 600_000, maxMs: 600_000, jitter: 0 },
    probeMs: 30,
    forgetMs: 60_000,
    now: () => Date.now() + aheadMs,
  });
  t.equal(relay.refusal(), null, 'nothing is known at the start');
  await outbox.add(entry(receiver.url, 'a'));
  await waitFor(() => relay.refusal() !== null, { what: 'a refusal' });
  t.match(relay.refusal(), { cause: /answers 401: SUPABASE_SERVICE_KEY or CALLBACK_SECRET/ });
  answer = [200, ''];
  await waitFor(() => relay.refusal() === null, { what: 'its end, long before the next regular try' });
  await waitFor(async () => (await outbox.pending()) === 0, { what: 'an empty outbox' });

  answer = [404, '{"code":"NOT_FOUND","message":"Requested function was not found"}'];
  aheadMs += 100_000;
  await outbox.add(entry(receiver.url, 'b'));
  await waitFor(() => relay.refusal() !== null, { what: 'the next refusal' });
  t.match(relay.refusal(), { cause: /answers 404: the function is not deployed/ });
  aheadMs += 60_001;
  t.equal(relay.refusal(), null, 'without news it is forgotten');
});

void t.test('what may be about one job counts from the second on', async (t) => {
  const receiver = await startReceiver(t, (response, { body }) => {
    response.writeHead(body.includes('"good') ? 200 : 403).end();
  });
  const { outbox } = await openOutbox(t);
  const sender = createCallbackSender();
  let answered = 0;
  const relay = startRelay(t, {
    outbox,
    sender: {
      ...sender,
      send: async (sent) => {
        const delivery = await sender.send(sent);
        setImmediate(() => (answered += 1));
        return delivery;
      },
    },
    receiver: receiver.url,
    backoff: { baseMs: 600_000, maxMs: 600_000, jitter: 0 },
  });
  const heard = async (jobId: string) => {
    const before = answered;
    await outbox.add(entry(receiver.url, jobId));
    relay.wake();
    await waitFor(() => answered > before, { what: jobId });
    return relay.refusal();
  };
  t.equal(await heard('bad-1'), null);
  t.equal(await heard('good-1'), null);
  t.equal(await heard('bad-2'), null, 'an accepted one lay between');
  t.match(await heard('bad-3'), { cause: /answers 403/ });
  t.equal(await heard('good-2'), null);
});

void t.test(
  'after 24 hours a callback is given up; put back in line it gets a fair number of attempts',
  async (t) => {
    const receiver = await startReceiver(t, (response) => {
      response.writeHead(503).end('down');
    });
    const { outbox } = await openOutbox(t);
    const yesterday = Date.now() - 25 * 3_600_000;
    await outbox.add(entry(receiver.url, 'old', 'completed', { createdAtMs: yesterday }));
    await outbox.add(entry(receiver.url, 'young'));
    const relay = startRelay(t, { outbox });
    await waitFor(async () => (await outbox.listDead(10)).length === 1, { what: 'the old one given up' });
    t.match(await outbox.listDead(10), [{ jobId: 'old', attempts: 10, lastError: '503 down' }]);
    t.equal(await outbox.pending(), 1, 'the young one goes on');
    const before = receiver.received.filter(({ body }) => body.includes('old')).length;
    await outbox.retryDead();
    relay.wake();
    await waitFor(async () => (await outbox.listDead(10)).length === 1, {
      what: 'the old one given up again',
    });
    t.equal(receiver.received.filter(({ body }) => body.includes('old')).length, before + 10);
  },
);

void t.test('waits grow, are capped, and are never shorter than the receiver asked for', async (t) => {
  const waits: number[] = [];
  const asked: { afterMs?: number } = {};
  const sender = {
    send: async (): Promise<Delivery> => ({ outcome: 'again', reason: 'x', ...asked }),
    close: async () => {},
  };
  let pending: OutboxEntry | null = null;
  const outbox = {
    claimDue: async () => {
      const claimed = pending === null ? [] : [pending];
      pending = null;
      return claimed;
    },
    reschedule: async (_id: string, delayMs: number) => {
      waits.push(delayMs);
    },
  } as unknown as RelayOptions['outbox'];
  const start = 1_000_000;
  const relay = createCallbackRelay({
    outbox,
    sender,
    workerId: 'w',
    log: silentLog,
    backoff: { baseMs: 1000, maxMs: 600_000, jitter: 0 },
    idleMs: 5,
    now: () => start,
  });
  relay.start();
  t.teardown(() => relay.stop(0));
  for (let attempts = 0; attempts < 12; attempts += 1) {
    pending = { ...entry('http://receiver/', 'a'), createdAtMs: start, attempts };
    relay.wake();
    await waitFor(() => waits.length === attempts + 1, { what: `attempt ${attempts}`, intervalMs: 2 });
  }
  t.same(
    waits.map((waitMs) => waitMs / 1000),
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600],
  );
  asked.afterMs = 30_000;
  pending = { ...entry('http://receiver/', 'a'), createdAtMs: start };
  relay.wake();
  await waitFor(() => waits.length === 13, { what: 'the one with Retry-After', intervalMs: 2 });
  t.equal(waits[12], 30_000);
});

void t.test('what a stopped relay had left is delivered by the next one', async (t) => {
  let isUp = false;
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(isUp ? 200 : 503).end();
  });
  const first = await openOutbox(t);
  for (let index = 0; index < 10; index += 1) await first.outbox.add(entry(receiver.url, `job-${index}`));
  const relay = createCallbackRelay({
    outbox: first.outbox,
    sender: createCallbackSender(),
    workerId: 'w1',
    log: silentLog,
    backoff: { baseMs: 50, maxMs: 50, jitter: 0 },
    idleMs: 10,
  });
  relay.start();
  await waitFor(() => receiver.received.length >= 10, { what: 'the first tries' });
  await relay.stop(100);
  t.equal(await first.outbox.pending(), 10);
  await first.close();
  isUp = true;
  const second = await openOutbox(t, first.folder);
  startRelay(t, { outbox: second.outbox });
  await waitFor(async () => (await second.outbox.pending()) === 0, { what: 'an empty outbox' });
  t.pass('all delivered');
});

void t.test('stopping delivers what is due, and ends in time when the receiver hangs', async (t) => {
  let hangs = false;
  const receiver = await startReceiver(t, (response) => {
    if (!hangs) response.end();
  });
  const { outbox } = await openOutbox(t);
  const relay = createCallbackRelay({
    outbox,
    sender: createCallbackSender(),
    workerId: 'w',
    log: silentLog,
    idleMs: 60_000,
  });
  relay.start();
  await new Promise((resolve) => setTimeout(resolve, 30));
  for (let index = 0; index < 20; index += 1) await outbox.add(entry(receiver.url, `job-${index}`));
  await relay.stop(5000);
  t.equal(await outbox.pending(), 0);
  t.equal(receiver.received.length, 20);

  hangs = true;
  const hung = createCallbackRelay({
    outbox,
    sender: createCallbackSender(),
    workerId: 'w',
    log: silentLog,
    idleMs: 10,
  });
  await outbox.add(entry(receiver.url, 'late'));
  hung.start();
  await waitFor(() => receiver.received.length === 21, { what: 'the hanging delivery' });
  const startedMs = Date.now();
  await hung.stop(200);
  t.ok(Date.now() - startedMs < 5000, 'it ended');
  t.equal(await outbox.pending(), 1, 'nothing is forgotten');
});

void t.test('idling ties nothing to what lives as long as the relay', async (t) => {
  // Each signal made of a long-lived one leaves something in it until the end: many looks a second would add
  // up.
  const any = t.capture(AbortSignal, 'any', AbortSignal.any.bind(AbortSignal));
  let looks = 0;
  const outbox = {
    claimDue: async () => {
      looks += 1;
      return [];
    },
  } as unknown as RelayOptions['outbox'];
  const relay = startRelay(t, { outbox, idleMs: 1 });
  await waitFor(() => looks > 20, { what: 'some looks', intervalMs: 5 });
  t.equal(any().length, 0);
  await relay.stop(0);
});

void t.test(
  'what was claimed before the process was suspended is not sent: others may have sent it',
  async (t) => {
    const { outbox } = await openOutbox(t);
    const steps: string[] = [];
    let nowMs = Date.now();
    const claimMs = 200;
    const suspended: typeof outbox = {
      ...outbox,
      claimDue: async (...request) => {
        const entries = await outbox.claimDue(...request);
        if (entries.length > 0) steps.push('claim');
        if (steps.length === 1) nowMs += claimMs / 2;
        return entries;
      },
    };
    const sender = {
      send: (): Promise<Delivery> => {
        steps.push('send');
        return Promise.resolve({ outcome: 'accepted' });
      },
      close: () => Promise.resolve(),
    };
    await outbox.add(entry('http://receiver/', 'job'));
    startRelay(t, { outbox: suspended, sender, claimMs, now: () => nowMs });
    await waitFor(async () => (await outbox.pending()) === 0, { what: 'an empty outbox' });
    t.same(steps, ['claim', 'claim', 'send']);
  },
);

void t.test('an outbox that fails for a while stops nothing', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.end();
  });
  const { outbox } = await openOutbox(t);
  let calls = 0;
  const flaky = new Proxy(outbox, {
    get(target, name: keyof typeof outbox) {
      const method = target[name] as (...args: unknown[]) => Promise<unknown>;
      return (...args: unknown[]) =>
        ++calls % 3 === 0 ? Promise.reject(new Error('connection lost')) : method.apply(target, args);
    },
  });
  for (let index = 0; index < 10; index += 1) await outbox.add(entry(receiver.url, `job-${index}`));
  startRelay(t, { outbox: flaky, claimMs: 50 });
  await waitFor(async () => (await outbox.pending()) === 0, { what: 'an empty outbox' });
  t.equal(
    new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size,
    10,
    'each one at least once',
  );
});

void t.test(
  'whatever a receiver answers, each callback ends delivered or dead, and none is lost',
  async (t) => {
    const answers = fc.array(fc.constantFrom(200, 204, 301, 400, 404, 410, 429, 500, 503, 0), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(fc.array(answers, { minLength: 1, maxLength: 6 }), async (plans) => {
        await t.test('one plan', async (t) => {
          const counts = new Map<string, number>();
          const receiver = await startReceiver(t, (response, { body }) => {
            const { job_id: jobId } = JSON.parse(body) as { job_id: string };
            const plan = plans[Number(jobId.slice(4))] ?? [];
            const index = counts.get(jobId) ?? 0;
            counts.set(jobId, index + 1);
            const status = index < plan.length ? (plan[index] ?? 200) : 200;
            if (status === 0) response.socket?.destroy();
            else response.writeHead(status).end();
          });
          const { outbox } = await openOutbox(t);
          for (let index = 0; index < plans.length; index += 1)
            await outbox.add(entry(receiver.url, `job-${index}`));
          startRelay(t, { outbox });
          const isFinal = (status: number) => (status >= 200 && status < 300) || status === 410;
          const ends = plans.map((plan) => plan.findIndex(isFinal));
          const refused = plans.flatMap((plan, index) =>
            (plan[ends[index] ?? -1] ?? 200) >= 400 ? [`job-${index}`] : [],
          );
          const deadJobs = async () => (await outbox.listDead(100)).map(({ jobId }) => jobId).sort();
          await waitFor(
            async () => (await outbox.pending()) === 0 && (await deadJobs()).length >= refused.length,
            { what: 'an empty outbox', intervalMs: 5 },
          );
          t.same(await deadJobs(), refused);
          for (const [index, plan] of plans.entries())
            t.equal(
              counts.get(`job-${index}`),
              ends[index] === -1 ? plan.length + 1 : (ends[index] ?? 0) + 1,
              'tried until there was a final answer',
            );
        });
      }),
      { numRuns: 15 },
    );
  },
);
