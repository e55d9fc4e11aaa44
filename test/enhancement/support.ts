import path from 'node:path';
import type { Test } from 'tap';
import { ownFile } from '../../src/lib/processes.js';
import { silentLog, testEngine } from '../engines/support.js';
import { projectRoot } from '../../src/lib/project.js';
import { createEngines } from '../../src/services/engines/engines.js';
import type { SupervisorOptions } from '../../src/services/engines/engine-options.js';
import { type DenyList, emptyDenyList } from '../../src/services/enhancement/deny-list.js';
import { createEnhancement, type EnhancementLimits } from '../../src/services/enhancement/enhancement.js';
import { createMemorySessions, type SessionStore } from '../../src/services/enhancement/sessions.js';
import { readTemplates } from '../../src/services/enhancement/templates.js';

export const scriptedEngine = ownFile('test/enhancement/scripted-engine');

export interface EnhancementHarness {
  engine?: Partial<SupervisorOptions> & { onLoad?: string };
  limits?: Partial<EnhancementLimits>;
  denyList?: DenyList;
  sessions?: SessionStore;
}

/** The enhancement over a real child process; waits short enough for a test. */
export async function createTestEnhancement(
  t: Test,
  { engine = {}, limits = {}, denyList = emptyDenyList, sessions }: EnhancementHarness = {},
) {
  const engines = createEngines({
    engines: [testEngine({ kind: 'qwen', entry: scriptedEngine, lazy: true, ...engine })],
  });
  const enhancement = createEnhancement({
    engines,
    denyList,
    log: silentLog,
    templates: await readTemplates(path.join(projectRoot(), 'prompts/enhancement')),
    sessions: sessions ?? createMemorySessions({ ttlMs: 60_000, maxTurns: 10, maxSessions: 100 }),
    limits: { attemptWaitMs: 20, ...limits },
  });
  t.teardown(async () => {
    await enhancement.stop();
    await engines.stop({ force: true });
  });
  return { engines, enhancement };
}
