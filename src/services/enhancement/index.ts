import path from 'node:path';
import type { Logger } from 'pino';
import { promptsDirOf, redisUrlOf, type Config } from '../../config.js';
import { enhancementOff } from '../engines/engine-options.js';
import { readDenyList, type DenyList } from './deny-list.js';
import { createEnhancement, type EnhancementParts } from './enhancement.js';
import { createRedisSessions } from './redis-sessions.js';
import { createMemorySessions } from './sessions.js';
import { readTemplates } from './templates.js';

export const openDenyList = (config: Config): Promise<DenyList> =>
  readDenyList(config.denyListFile ?? path.join(promptsDirOf(config), 'deny-list.txt'));

export async function createPromptEnhancement(
  config: Config,
  log: Logger,
  parts: Pick<EnhancementParts, 'engines' | 'denyList'>,
) {
  return createEnhancement({
    ...parts,
    log,
    off: config.enhance ? undefined : enhancementOff,
    templates: await readTemplates(path.join(promptsDirOf(config), 'enhancement')),
    sessions: createSessions(config),
    limits: {
      deadlineMs: config.enhanceTimeoutSeconds * 1000,
      maxAttempts: config.enhanceMaxAttempts,
      places: config.enhanceConcurrency,
      maxWaiting: config.enhanceMaxWaiting,
      idleMs: config.enhanceIdleSeconds * 1000,
      keepWords: config.enhanceKeepWordsPercent / 100,
    },
  });
}

/** Conversations live where the queue does: what any replica may go on with, or this process alone. */
function createSessions(config: Config) {
  const url = redisUrlOf(config);
  const limits = {
    ttlMs: config.enhanceSessionSeconds * 1000,
    maxTurns: config.enhanceSessionTurns,
    maxSessions: config.enhanceMaxSessions,
  };
  return url === undefined
    ? createMemorySessions(limits)
    : createRedisSessions({ url, ca: config.redisTlsCa, ...limits });
}
