/**
 * Sends generated requests to a running service and holds every answer against openapi.yaml, event streams included:
 * `node --import tsx tools/fuzz.ts [requests, default 10000]`. Needs Python 3; the checker is installed into a temporary
 * folder, its version pinned. 503 is an answer (with its reason); every other 5xx is a failure.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { listOperations, readDocument } from '../src/contract/document.js';
import { projectRoot } from '../src/lib/project.js';
import { startService } from '../test/helpers/service-process.js';

const checker = 'schemathesis==4.32.5';
const checks = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
];
const requests = Number(process.argv[2] ?? 10_000);
const perOperation = Math.ceil(requests / listOperations(readDocument()).length);

const folder = mkdtempSync(path.join(tmpdir(), 'ourvidz-fuzz-'));
const run = (command: string, args: string[]) => {
  const { status } = spawnSync(command, args, { stdio: 'inherit', cwd: folder });
  return status ?? 1;
};
try {
  const python = path.join(folder, 'venv/bin/python');
  if (
    run('python3', ['-m', 'venv', 'venv']) !== 0 ||
    run(python, ['-m', 'pip', 'install', '-q', checker]) !== 0
  )
    throw new Error(`${checker} could not be installed`);
  writeFileSync(
    path.join(folder, 'schemathesis.toml'),
    '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", 503]\n',
  );
  const service = await startService({ env: { MAX_WAITING_JOBS: '200', LOG_LEVEL: 'error' } });
  try {
    process.exitCode = run(path.join(folder, 'venv/bin/schemathesis'), [
      'run',
      path.join(projectRoot(), 'openapi.yaml'),
      ...['--url', service.baseUrl, '--header', `Authorization: Bearer ${service.apiKey}`],
      ...['--phases', 'fuzzing', '--checks', checks.join(), '--max-examples', String(perOperation)],
      ...['--seed', '1', '--no-shrink', '--continue-on-failure', '--request-timeout', '60'],
    ]);
  } finally {
    await service.cleanUp();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
