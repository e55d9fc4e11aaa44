import t from 'tap';
import { retry } from '../../src/lib/retry.js';

const backoff = { baseMs: 1, maxMs: 1, jitter: 0 };
// Waits between tries keep no process alive; here one has to stay.
const alive = setInterval(() => {}, 1000);
t.teardown(() => clearInterval(alive));

t.test('no try begins after the limit, whatever the action takes', async (t) => {
  let nowMs = 0;
  let tries = 0;
  const action = () => {
    tries += 1;
    nowMs += 400;
    return Promise.reject(new Error('away'));
  };
  await t.rejects(retry(action, { backoff, limitMs: 1000, now: () => nowMs }), { message: 'away' });
  t.equal(tries, 3, 'begun at 0, 400 and 800');
});

t.test('no more tries than asked for, none for what cannot be cured, none after the end', async (t) => {
  let tries = 0;
  const action = () => {
    tries += 1;
    return Promise.reject(new Error(`try ${tries}`));
  };
  await t.rejects(retry(action, { backoff, attempts: 2 }), { message: 'try 2' });
  await t.rejects(retry(action, { backoff, isRetryable: () => false }), { message: 'try 3' });
  const ending = new AbortController();
  const onRetry = () => ending.abort(new Error('the end'));
  await t.rejects(retry(action, { backoff, signal: ending.signal, onRetry }), { message: 'the end' });
  t.equal(tries, 4);
});
