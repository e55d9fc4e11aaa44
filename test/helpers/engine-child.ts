import { fork, type ChildProcess } from 'node:child_process';
import type {
  EngineEvent,
  EngineMethod,
  EngineMethods,
  FromEngine,
} from '../../src/inference/engine-protocol.js';
import { ownFile, ownLoader } from '../../src/lib/processes.js';

export interface EngineChild {
  child: ChildProcess;
  ask<M extends EngineMethod>(
    method: M,
    params: EngineMethods[M]['params'],
    onEvent?: (event: EngineEvent, id: string) => void,
  ): Promise<EngineMethods[M]['result']>;
  cancel(id: string): void;
  /** Ends it at once, and waits until it is gone. */
  kill(): Promise<void>;
}

/** The real engine process, spoken to as the service does. */
export function startEngineChild(kind: 'sdxl' | 'wan' | 'qwen'): EngineChild {
  const child = fork(ownFile('src/inference/engine-main'), [kind], {
    execArgv: [...ownLoader],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc', 'pipe'],
  });
  const ended = new Promise<void>((resolve) =>
    child.once('close', () => {
      resolve();
    }),
  );
  let count = 0;
  return {
    child,
    cancel(id) {
      child.send({ type: 'cancel', id });
    },
    ask(method, params, onEvent = () => {}) {
      const id = String((count += 1));
      return new Promise((resolve, reject) => {
        const listen = (message: FromEngine) => {
          if (!('id' in message) || message.id !== id) return;
          if (message.type === 'event') onEvent(message.event, id);
          else {
            child.off('message', listen);
            if (message.type === 'result') resolve(message.result as EngineMethods[typeof method]['result']);
            else if (message.type === 'error')
              reject(Object.assign(new Error(message.error.message), message.error));
          }
        };
        child.on('message', listen);
        child.send({ type: 'request', id, method, params });
      });
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
