import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { projectRoot } from '../../src/project-root.js';
import { createEngineService } from '../../src/services/engines/engine-service.js';
import type { SupervisorOptions } from '../../src/services/engines/supervisor.js';
import { emptyDenyList, type DenyList } from '../../src/services/enhancement/deny-list.js';
import { createEnhancement, type EnhancementLimits } from '../../src/services/enhancement/service.js';
import { createMemorySessions } from '../../src/services/enhancement/sessions/memory.js';
import type { SessionStore } from '../../src/services/enhancement/sessions/types.js';
import { readTemplates } from '../../src/services/enhancement/templates.js';
import { silentLog, testEngine } from '../engines/support.js';

export const scriptedEngine = fileURLToPath(new URL('./scripted-engine.js', import.meta.url));

export interface EnhancementHarness {
  engine?: Partial<SupervisorOptions> & { onLoad?: string };
  limits?: Partial<EnhancementLimits>;
  denyList?: DenyList;
  sessions?: SessionStore;
}

/** The enhancement over a real child process; waits short enough for a test. */
export async function createTestEnhancement(t: Test, { engine = {}, limits = {}, denyList = emptyDenyList, sessions }: EnhancementHarness = {}) {
  const engines = createEngineService({ engines: [testEngine({ kind: 'qwen', entry: scriptedEngine, lazy: true, ...engine })] });
  const enhancement = createEnhancement({
    engines, denyList, log: silentLog, templates: await readTemplates(path.join(projectRoot(), 'prompts/enhancement')),
    sessions: sessions ?? createMemorySessions({ ttlMs: 60_000, maxTurns: 10, maxSessions: 100 }), limits: { attemptWaitMs: 20, ...limits },
  });
  t.teardown(async () => {
    await enhancement.stop();
    await engines.stop({ force: true });
  });
  return { engines, enhancement };
}
