import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { markdownTable, percentile } from './statistics.js';

const pauseMs = 5;

/**
 * Times `GET /health` of a running service: one request at a time over one connection, a pause after each.
 */
export function createHealthProbe(baseUrl: string) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  function timeRequest(): Promise<number> {
    return new Promise((resolve, reject) => {
      const startedAt = process.hrtime.bigint();
      http
        .get(`${baseUrl}/health`, { agent }, (response) => {
          response.resume();
          response.on('end', () =>
            response.statusCode === 200
              ? resolve(Number(process.hrtime.bigint() - startedAt) / 1e6)
              : reject(new Error(`/health answered ${response.statusCode}`)),
          );
        })
        .on('error', reject);
    });
  }

  return {
    /** Milliseconds of `count` requests. */
    async sample(count: number): Promise<number[]> {
      const durations: number[] = [];
      for (let index = 0; index < count; index += 1) {
        durations.push(await timeRequest());
        await sleep(pauseMs);
      }
      return durations;
    },
    close: () => agent.destroy(),
  };
}
/** What was timed, in milliseconds, a row a phase. */
export function healthTable(
  phases: ReadonlyArray<readonly [name: string, samples: readonly number[]]>,
): string {
  return markdownTable(
    ['GET /health', 'requests', 'p50 ms', 'p90 ms', 'p99 ms', 'max ms'],
    phases.map(([name, samples]) => [
      name,
      samples.length,
      ...[0.5, 0.9, 0.99, 1].map((fraction) => percentile(samples, fraction).toFixed(2)),
    ]),
  );
}

export type HealthProbe = ReturnType<typeof createHealthProbe>;
