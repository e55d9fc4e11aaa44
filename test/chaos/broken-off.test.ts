import { spawn } from 'node:child_process';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { descendants, isAlive } from '../helpers/processes.js';
import { redisOrSkip } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';

if (redisOrSkip(t)) {
  t.setTimeout(240_000);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    await t.test(`a chaos run that ${signal} breaks off leaves no process behind`, async (t) => {
      const run = spawn(process.execPath, [...ownProgram('test/chaos/run'), '1', '20'], { stdio: 'ignore' });
      t.teardown(() => run.kill('SIGKILL'));
      const left = await waitFor(
        () => {
          const started = descendants(run.pid as number);
          const engines = started.filter(({ command }) => command.includes('engine-main'));
          return started.some(({ command }) => command.includes('redis-server')) && engines.length > 0
            ? started.filter(({ command }) => !command.startsWith('sh '))
            : undefined;
        },
        { what: 'Redis, services and an engine', timeoutMs: 60_000 },
      );
      t.ok(left.length >= 3, left.map(({ command }) => command.slice(0, 60)).join(', '));
      run.kill(signal);
      await waitFor(() => !left.some(({ pid }) => isAlive(pid)), {
        what: () => `their end; left: ${JSON.stringify(left.filter(({ pid }) => isAlive(pid)))}`,
        timeoutMs: 20_000,
      });
    });
  }
}
