import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Redis } from 'ioredis';
import type { QueueName } from '../../catalogue.js';
import { projectRoot } from '../../../lib/project.js';
import {
  longestAttemptError,
  mostDeadCallbacks,
  mostDeadLetterBytes,
  mostDeadLetters,
  mostEndedAttempts,
} from '../records.js';
import { mostChanges } from '../store-parts.js';

interface Script {
  source: string;
  sha: string;
}

/**
 * Every `scripts/*.lua` by its name, with what it shares with others in front: `shared/common.lua`, and what
 * its first line asks for. Lua is not compiled, so `dist` reads it from `src` as well.
 */
function loadScripts(): Map<string, Script> {
  const folder = path.join(projectRoot(), 'src/services/queue/redis/scripts');
  const scripts = new Map<string, Script>();
  for (const file of readdirSync(folder)) {
    if (!file.endsWith('.lua')) continue;
    const own = readFileSync(path.join(folder, file), 'utf8');
    const constants = Object.entries({
      most_letters: mostDeadLetters,
      most_letter_bytes: mostDeadLetterBytes,
      most_dead_callbacks: mostDeadCallbacks,
      most_ended_attempts: mostEndedAttempts,
      longest_attempt_error: longestAttemptError,
      most_changes: mostChanges,
    })
      .map(([name, value]) => `local ${name} = ${value}`)
      .join('\n');
    const shared = ['common', ...(/^-- with: (.+)/.exec(own)?.[1]?.split(' ') ?? [])];
    const source = [
      constants,
      ...shared.map((name) => readFileSync(path.join(folder, 'shared', `${name}.lua`), 'utf8')),
      own,
    ].join('\n');
    scripts.set(file.slice(0, -4), { source, sha: createHash('sha1').update(source).digest('hex') });
  }
  return scripts;
}

type ScriptName =
  | 'submit'
  | 'reserve'
  | 'claim'
  | 'begin'
  | 'renew'
  | 'progress'
  | 'finish'
  | 'retry-later'
  | 'release'
  | 'dead-letter'
  | 'reclaim'
  | 'housekeep'
  | 'cancel'
  | 'look'
  | 'recordless'
  | 'recordless-ids'
  | 'position'
  | 'depth'
  | 'dead-letters'
  | 'requeue-dead-letter'
  | 'drop-dead-letter'
  | 'forget-assets'
  | 'announce'
  | 'callback-add'
  | 'callback-claim'
  | 'callback-delivered'
  | 'callback-reschedule'
  | 'callback-dead-letter'
  | 'callback-retry-dead';

export type Argument = string | number | Buffer;
type Run = (name: ScriptName, queue: QueueName, ...args: Argument[]) => Promise<unknown>;
/** `raw` answers with bytes where others answer with text. */
export type RunScript = Run & { raw: Run };

/** Scripts after which no callback can be due that was not due before. */
const withoutCallbacks: ReadonlySet<ScriptName> = new Set([
  'reserve',
  'claim',
  'renew',
  'progress',
  'reclaim',
  'housekeep',
  'look',
  'recordless',
  'recordless-ids',
  'position',
  'depth',
  'dead-letters',
  'drop-dead-letter',
  'forget-assets',
  'announce',
  'callback-claim',
]);

/** Runs scripts by hash; a server that does not know one (restarted, flushed) gets its text once. */
export function createScriptRunner(
  redis: Redis,
  options: { prefix: string; now: (() => number) | undefined },
) {
  const scripts = loadScripts();
  const { prefix, now } = options;
  let changes = 0;

  const runner =
    (call: (command: 'evalsha' | 'eval', ...args: Argument[]) => Promise<unknown>): Run =>
    async (name, queue, ...args) => {
      const script = scripts.get(name);
      if (script === undefined) throw new Error(`redis/scripts/${name}.lua is missing`);
      const keys = [queue, `${prefix}delayed:${queue}`, `${prefix}leases:${queue}`];
      const all = [...keys, prefix, now === undefined ? '' : String(now()), ...args];
      const change = withoutCallbacks.has(name) ? 0 : 1;
      changes += change;
      try {
        return await call('evalsha', script.sha, keys.length, ...all);
      } catch (error) {
        if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
        return await call('eval', script.source, keys.length, ...all);
      } finally {
        // Also afterwards: a script that the server did not know ran later than what was sent behind it.
        changes += change;
      }
    };

  const run: RunScript = Object.assign(
    runner((command, ...args) => redis.call(command, ...args)),
    { raw: runner((command, ...args) => redis.callBuffer(command, ...args)) },
  );
  return {
    run,
    /** Grows with whatever may have made a callback due. */
    callbackChanges: () => changes,
  };
}
