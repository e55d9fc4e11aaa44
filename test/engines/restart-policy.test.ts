import t from 'tap';
import { createRestartPolicy } from '../../src/services/engines/restart-policy.js';

const options = {
  restartBaseMs: 10_000,
  restartMaxMs: 60_000,
  restartJitter: 0,
  stablePeriodMs: 120_000,
  maxFailedStarts: 5,
  failedRetryMs: 600_000,
};

t.test('failed starts: 10 s, doubling up to the cap, then given up', async (t) => {
  const policy = createRestartPolicy(options);
  const start = () => policy.diedStarting({ hopeless: false });
  t.same(
    [start(), start(), start(), start()].map((each) => each.action === 'wait' && each.delayMs),
    [10_000, 20_000, 40_000, 60_000],
  );
  t.same(start(), { action: 'fail', delayMs: 600_000, failedStarts: 5 });
  policy.ready();
  t.match(start(), { action: 'wait', delayMs: 10_000 }, 'one good start forgets the bad ones');
  t.match(createRestartPolicy({ ...options, failedRetryMs: 0 }).diedStarting({ hopeless: true }), {
    action: 'fail',
    delayMs: null,
  });
});

t.test(
  'deaths at work: at once, then 10 s, doubling; forgotten after a success or a stable period',
  async (t) => {
    const policy = createRestartPolicy(options);
    const die = (readyMs = 1000) => policy.diedAtWork({ readyMs });
    t.same(
      [die(), die(), die()],
      [{ action: 'now' }, { action: 'wait', delayMs: 10_000 }, { action: 'wait', delayMs: 20_000 }],
    );
    policy.succeeded();
    t.same(die(), { action: 'now' });
    t.match(die(), { action: 'wait' });
    t.same(die(120_000), { action: 'now' }, 'it had been stable');
    policy.reset();
    t.same(die(), { action: 'now' });
  },
);

t.test('jitter spreads the delay around its value', async (t) => {
  const of = (random: number) =>
    createRestartPolicy({ ...options, restartJitter: 0.2, random: () => random }).diedStarting({
      hopeless: false,
    });
  t.same(
    [of(0), of(0.5), of(1)].map((each) => each.action === 'wait' && each.delayMs),
    [8000, 10_000, 12_000],
  );
});
