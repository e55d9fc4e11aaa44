/**
 * Many callers at the prompt model, through the service's enhancement and its engine process. Gates:
 * a model of Qwen2.5-0.5B's shape (random weights, eight bits) writes for eight callers at least twice the
 * tokens a second that it writes for one after another; the pocket model at least 0.9 times, with no answer
 * later than one and a half times its share (eight times itself alone) and no caller more than a quarter
 * slower than the mean; the first token with a system prompt that a sequence holds takes at most half of one
 * that it must read; the 99th percentile of `GET /health` with eight callers is at most twice the idle one.
 */
import { once } from 'node:events';
import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { projectRoot } from '../src/lib/project.js';
import { startService } from '../test/helpers/service-process.js';
import { shapes, writeQwenGguf } from '../tools/qwen-gguf.js';
import type { CallerWork } from './enhance/caller-worker.js';
import { callers, measureRound, summarise, type Round } from './enhance/callers.js';
import { pocketPrompts, startHarness, type Harness } from './enhance/harness.js';
import { createHealthProbe, healthTable } from './health-probe.js';
import { markdownTable, percentile } from './statistics.js';

const gates = {
  largeThroughput: 2,
  pocketThroughput: 0.9,
  wait: 1.5,
  slowestCaller: 1.25,
  warm: 0.5,
  health: 2,
};
const rounds = { large: 3, pocket: 7, firstToken: 6, health: 6 };
const healthSamples = 400;

const missed: string[] = [];
const gate = (name: string, ok: boolean) => {
  if (!ok) missed.push(name);
};
const median = (values: readonly number[]) => percentile(values, 0.5);
const print = (text: string) => process.stdout.write(`${text}\n\n`);
const prompts = await pocketPrompts();
const promptOf = (index: number) => prompts[index % prompts.length] as string;

print(
  `Load of this machine before: ${(loadavg()[0] ?? 0).toFixed(1)}. The gates are for one that does nothing else: eight callers need the cores that one leaves idle.`,
);
await benchLarge();
await benchPocket();
await benchHealth();
if (missed.length > 0) print(`missed: ${missed.join(', ')}`);
process.exitCode = missed.length > 0 ? 1 : 0;

async function benchLarge(): Promise<void> {
  const folder = await largeModel();
  const together = await startHarness(folder, { sequences: callers });
  const measured: Round[] = [];
  try {
    const request = (index: number) => ({ prompt: promptOf(index), maxTokens: 64, seed: index });
    await measureRound(together, 1, request);
    for (let round = 0; round < rounds.large; round += 1)
      measured.push(await measureRound(together, 1, request));
  } finally {
    await together.stop();
  }
  const { throughput } = printCallers(`Qwen2.5-0.5B's shape, ${together.threads()}`, measured);
  gate('throughput of eight callers, 0.5B', throughput >= gates.largeThroughput);

  const single = await startHarness(folder, { sequences: 1 });
  try {
    gate(
      'first token, 0.5B',
      printFirstToken("Qwen2.5-0.5B's shape", await measureFirstToken(single, 8)) <= gates.warm,
    );
  } finally {
    await single.stop();
  }
}

async function benchPocket(): Promise<void> {
  const folder = path.join(projectRoot(), 'models/pocket/qwen');
  const together = await startHarness(folder, { sequences: callers });
  const measured: Round[] = [];
  try {
    const request = (index: number) => ({ prompt: promptOf(index), seed: index });
    await measureRound(together, 4, request);
    for (let round = 0; round < rounds.pocket; round += 1)
      measured.push(await measureRound(together, 8, request));
  } finally {
    await together.stop();
  }
  const { throughput, wait, slowestCaller } = printCallers(`pocket model, ${together.threads()}`, measured);
  gate('throughput of eight callers, pocket', throughput >= gates.pocketThroughput);
  gate('an answer waits no more than its share', wait <= gates.wait);
  gate('no caller is much slower than the others', slowestCaller <= gates.slowestCaller);

  const single = await startHarness(folder, { sequences: 1 });
  try {
    gate(
      'first token, pocket',
      printFirstToken('pocket model', await measureFirstToken(single)) <= gates.warm,
    );
  } finally {
    await single.stop();
  }
}

function printCallers(model: string, measured: readonly Round[]) {
  const summary = summarise(measured);
  const { throughput, wait, slowestCaller, tokensAlone, tokensTogether, msAlone, msTogether } = summary;
  print(
    `${model}; ${measured.length} rounds\n\n${markdownTable(
      ['callers', 'tokens/s', 'median answer ms'],
      [
        ['1', tokensAlone.toFixed(0), msAlone.toFixed(0)],
        [callers, tokensTogether.toFixed(0), msTogether.toFixed(0)],
      ],
    )}\n\n` +
      `throughput ${throughput.toFixed(2)} ×; latest answer ÷ ${callers} times the same alone = ${wait.toFixed(2)}; slowest caller ÷ mean of all = ${slowestCaller.toFixed(2)}`,
  );
  return summary;
}

/**
 * On one sequence: what it holds is the beginning of the last request. Chat and completion begin differently,
 * so a change between them reads the whole prompt, and the same again reads what follows the beginning. Pairs
 * in turns.
 */
async function measureFirstToken(
  { ask }: Harness,
  maxTokens?: number,
): Promise<{ cold: number[]; warm: number[] }> {
  const cold: number[] = [];
  const warm: number[] = [];
  let session = 0;
  const first = async (chat: boolean) => {
    session += 1;
    const conversation = chat
      ? { model: 'qwen_instruct' as const, owner: 'bench', sessionId: `s${session}` }
      : {};
    return (
      await ask({
        prompt: promptOf(session),
        ...(maxTokens === undefined ? {} : { maxTokens }),
        seed: session,
        ...conversation,
      })
    ).firstTokenMs;
  };
  for (const chat of [true, false]) await first(chat);
  for (let round = 0; round < rounds.firstToken; round += 1) {
    for (const chat of [true, false]) {
      cold.push(await first(chat));
      warm.push(await first(chat));
    }
  }
  return { cold, warm };
}

function printFirstToken(model: string, { cold, warm }: { cold: number[]; warm: number[] }): number {
  const ratio = median(warm) / median(cold);
  print(
    `Time to the first token, ${model}: ${median(cold).toFixed(1)} ms cold, ${median(warm).toFixed(1)} ms with a held system prompt; ratio ${ratio.toFixed(2)} (gate: at most ${gates.warm}); ${cold.length} pairs`,
  );
  return ratio;
}

async function benchHealth(): Promise<void> {
  const service = await startService({ env: { LOG_LEVEL: 'warn' } });
  const probe = createHealthProbe(service.baseUrl);
  try {
    const idle: number[] = [];
    const asked: number[] = [];
    let answers = 0;
    const first = await service.send('POST', '/enhance', { prompt: promptOf(0) });
    if (first.status !== 200) throw new Error(`/enhance answered ${first.status}: ${await first.text()}`);
    await first.arrayBuffer();
    await probe.sample(healthSamples);
    for (let round = 0; round < rounds.health; round += 1) {
      idle.push(...(await probe.sample(healthSamples)));
      const working = new Worker(new URL('./enhance/caller-worker.js', import.meta.url), {
        workerData: {
          baseUrl: service.baseUrl,
          apiKey: service.apiKey,
          callers,
          prompts,
        } satisfies CallerWork,
      });
      const answered = once(working, 'message') as Promise<[number]>;
      await once(working, 'online');
      asked.push(...(await probe.sample(healthSamples)));
      working.postMessage('stop');
      answers += (await answered)[0];
    }
    const ratio = percentile(asked, 0.99) / percentile(idle, 0.99);
    print(
      healthTable([
        ['idle', idle],
        [`${callers} callers of /enhance`, asked],
      ]),
    );
    print(
      `p99 with ${callers} callers ÷ p99 idle = ${ratio.toFixed(2)} (gate: at most ${gates.health}); ${answers} prompts enhanced meanwhile`,
    );
    gate('/health', ratio <= gates.health);
  } finally {
    probe.close();
    await service.cleanUp();
  }
}

/** Written once, about 530 MB, and kept in the system's temporary folder. */
async function largeModel(): Promise<string> {
  const folder = path.join(tmpdir(), 'ourvidz-bench-qwen-0.5b');
  const file = path.join(folder, 'qwen.gguf');
  if (
    await stat(file).then(
      (found) => found.isFile(),
      () => false,
    )
  )
    return folder;
  await mkdir(folder, { recursive: true });
  const partial = await mkdtemp(path.join(tmpdir(), 'ourvidz-bench-'));
  await writeQwenGguf(path.join(partial, 'qwen.gguf'), shapes['0.5b'], { type: 'q8_0' });
  await rename(path.join(partial, 'qwen.gguf'), file);
  await rm(partial, { recursive: true });
  return folder;
}
