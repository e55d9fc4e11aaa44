import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';
import { childProcesses, endWithThisProcess } from '../helpers/processes.js';

export interface FleetOptions {
  folder: string;
  services: number;
  environment: (index: number) => Record<string, string>;
}

/**
 * Real service processes, each with a folder, a port and a log of its own. Only processes started here are
 * ever killed.
 */
export async function startFleet({ folder, services, environment }: FleetOptions) {
  const members = await Promise.all(
    Array.from({ length: services }, async (_, index) => {
      const home = path.join(folder, `service-${index}`);
      await mkdir(home, { recursive: true });
      return {
        home,
        port: await findFreePort(),
        log: createWriteStream(path.join(folder, `service-${index}.log`), { flags: 'a' }),
        child: undefined as ChildProcess | undefined,
        starts: 0,
      };
    }),
  );

  function memberOf(index: number) {
    const member = members[index];
    if (member === undefined) throw new Error(`there is no service ${index}`);
    return member;
  }
  const isUp = (index: number) => {
    const { child } = memberOf(index);
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  };

  function start(index: number) {
    const member = memberOf(index);
    if (isUp(index)) return;
    member.starts += 1;
    member.log.write(`--- start ${member.starts}\n`);
    const child = spawn(process.execPath, ownProgram('src/server'), {
      cwd: member.home,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env['PATH'],
        HOME: process.env['HOME'],
        ...environment(index),
        DATA_DIR: member.home,
        HOST: '127.0.0.1',
        PORT: String(member.port),
      },
    });
    endWithThisProcess(child);
    child.stdout.pipe(member.log, { end: false });
    child.stderr.pipe(member.log, { end: false });
    child.once('exit', (code, signal) => {
      member.log.write(`--- ended: ${code ?? signal}\n`);
    });
    member.child = child;
  }

  /**
   * Engines of a killed service end by themselves when their channel closes; here they are looked up while it
   * lives.
   */
  const engines = (index: number) => {
    const pid = memberOf(index).child?.pid;
    const children = pid === undefined || !isUp(index) ? [] : childProcesses(pid);
    return children.filter(({ command }) => command.includes('engine-main')).map((info) => info.pid);
  };

  async function end(index: number, signal: NodeJS.Signals) {
    const { child } = memberOf(index);
    if (child === undefined || !isUp(index)) return;
    const ended = new Promise((resolve) => {
      child.once('exit', resolve);
    });
    child.kill(signal);
    await ended;
  }

  for (let index = 0; index < services; index += 1) start(index);
  return {
    start,
    isUp,
    size: services,
    logOf: (index: number) => path.join(folder, `service-${index}.log`),
    url: (index: number) => `http://127.0.0.1:${memberOf(index).port}`,
    starts: () => members.reduce((sum, { starts }) => sum + starts, 0),
    kill: (index: number) => end(index, 'SIGKILL'),
    /** Its first engine, which may end in the meantime; returns the process it went to. */
    signalEngine(index: number, signal: NodeJS.Signals): number | undefined {
      const [pid] = engines(index);
      if (pid !== undefined) signalProcess(pid, signal);
      return pid;
    },
    signal: (index: number, signal: 'SIGSTOP' | 'SIGCONT') =>
      isUp(index) && memberOf(index).child?.kill(signal) === true,
    async stop() {
      const timers = members.map((_, index) => setTimeout(() => void end(index, 'SIGKILL'), 20_000));
      await Promise.all(members.map((_, index) => end(index, 'SIGTERM')));
      for (const timer of timers) clearTimeout(timer);
      for (const { log } of members) log.end();
    },
  };
}
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended
  }
}
export type Fleet = Awaited<ReturnType<typeof startFleet>>;
