import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { ownFile, ownLoader } from '../../src/lib/processes.js';
import { isAlive } from '../helpers/processes.js';
import { until } from './support.js';

const entry = ownFile('src/inference/engine-main');
/** In the engine, before its own code: on command its main thread is gone, as within a native call. */
const block =
  'process.on("message", (message) => { if (message.block) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); })';
const service = `
  const engine = require('node:child_process').fork(${JSON.stringify(entry)}, ['sdxl'], { execArgv: [...${JSON.stringify(ownLoader)}, '--import=data:text/javascript,' + encodeURIComponent(${JSON.stringify(block)})], stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe'] });
  engine.once('message', () => {
    if (process.argv[1] === 'block') engine.send({ block: true });
    setTimeout(() => console.log(engine.pid), 500);
  });
  setInterval(() => {}, 1000);
`;

for (const doing of ['idle', 'block']) {
  t.test(
    `an engine ends with its service, killed while the engine's main thread is ${doing === 'idle' ? 'free' : 'inside a native call'}`,
    async (t) => {
      const parent = spawn(process.execPath, ['--eval', service, doing], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: process.env['PATH'] },
      });
      t.teardown(() => parent.kill('SIGKILL'));
      const [chunk] = (await once(parent.stdout, 'data')) as [Buffer];
      const pid = Number(chunk.toString());
      t.teardown(() => {
        if (isAlive(pid)) process.kill(pid, 'SIGKILL');
      });
      t.ok(isAlive(pid));
      parent.kill('SIGKILL');
      await until('its end', () => !isAlive(pid), 10_000);
      t.pass('it is gone');
    },
  );
}
