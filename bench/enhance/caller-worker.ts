import { parentPort, workerData } from 'node:worker_threads';

/**
 * Callers of `POST /enhance` in a thread of their own: what they do with the answers must not delay who times
 * `/health`.
 */
export interface CallerWork {
  baseUrl: string;
  apiKey: string;
  callers: number;
  prompts: string[];
}

const { baseUrl, apiKey, callers, prompts } = workerData as CallerWork;
let over = false;
let answers = 0;
parentPort?.once('message', () => {
  over = true;
});

await Promise.all(
  Array.from({ length: callers }, async (_, caller) => {
    for (let turn = caller; !over; turn += callers) {
      const answer = await fetch(`${baseUrl}/enhance`, {
        method: 'POST',
        headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ prompt: prompts[turn % prompts.length] }),
      });
      const text = await answer.text();
      if (answer.status !== 200) throw new Error(`/enhance answered ${answer.status}: ${text}`);
      answers += 1;
    }
  }),
);
parentPort?.postMessage(answers);
