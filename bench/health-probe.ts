import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const pauseMs = 5;

/** Times `GET /health` of a running service: one request at a time over one connection, a pause after each. */
export function createHealthProbe(baseUrl: string) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

  function timeRequest(): Promise<number> {
    return new Promise((resolve, reject) => {
      const startedAt = process.hrtime.bigint();
      http.get(`${baseUrl}/health`, { agent }, (response) => {
        response.resume();
        response.on('end', () => (response.statusCode === 200 ? resolve(Number(process.hrtime.bigint() - startedAt) / 1e6) : reject(new Error(`/health answered ${response.statusCode}`))));
      }).on('error', reject);
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
export type HealthProbe = ReturnType<typeof createHealthProbe>;
