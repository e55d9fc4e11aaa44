import { createRandom } from './random.js';

/**
 * `twice` is pushed a second time later on, `cancelled` has its cancellation asked for while it waits or
 * runs.
 */
export type JobKind = 'plain' | 'twice' | 'cancelled' | 'invalid' | 'garbage';

export interface PlannedJob {
  kind: JobKind;
  /** Empty for garbage, which has none. */
  id: string;
  payload: string;
  images: number;
  atMs: number;
  /** When the second push or the cancellation comes. */
  againAtMs: number;
}

export type Blow =
  | { what: 'kill service'; service: number; downMs: number }
  | { what: 'kill engine'; service: number }
  /** Longer than a lease: it wakes up as somebody whose jobs others have. */
  | { what: 'freeze service'; service: number; forMs: number }
  | { what: 'restart Redis'; downMs: number }
  | { what: 'cut Redis connections' }
  | { what: 'endpoints down'; forMs: number };
export type PlannedBlow = Blow & { atMs: number };

export interface ChaosOptions {
  seed: number;
  jobs: number;
  services: number;
  /** Over which jobs are pushed and blows fall. */
  spanMs: number;
  leaseSeconds: number;
  /** Share of requests that the storage and callback endpoints fail. */
  failureRate: number;
  /** How many of each blow. */
  blows: {
    serviceKills: number;
    engineKills: number;
    freezes: number;
    redisRestarts: number;
    cuts: number;
    outages: number;
    outageMs: number;
  };
}

/** Everything that is going to happen, from the seed alone. */
export function planChaos(options: ChaosOptions): { jobs: PlannedJob[]; blows: PlannedBlow[] } {
  const random = createRandom(options.seed);
  const { spanMs, services, blows: count } = options;
  const userId = random.uuid();

  const jobs = Array.from({ length: options.jobs }, (_, index): PlannedJob => {
    const dice = random.next();
    const kind: JobKind =
      dice < 0.03
        ? 'twice'
        : dice < 0.06
          ? 'cancelled'
          : dice < 0.08
            ? 'invalid'
            : dice < 0.09
              ? 'garbage'
              : 'plain';
    const id = random.uuid();
    const images = random.chance(0.1) ? 3 : 1;
    // From a tenth of a second to about one: blows must find jobs at work.
    const pixels = ([64, 64, 64, 128, 128, 256] as const)[random.index(6)] ?? 64;
    const job = {
      id,
      type: random.chance(0.5) ? 'sdxl_image_fast' : 'sdxl_image_high',
      prompt: kind === 'invalid' ? '' : `a red circle, number ${index}`,
      user_id: userId,
      config: { num_images: images, seed: index, width: pixels, height: pixels },
    };
    const atMs = random.between(0, spanMs);
    return {
      kind,
      images,
      atMs,
      againAtMs: atMs + random.between(0, spanMs / 3),
      id: kind === 'garbage' ? '' : id,
      payload: kind === 'garbage' ? `{"id": "${id}", no JSON` : JSON.stringify(job),
    };
  });

  const blows: PlannedBlow[] = [];
  /** Spread over the span, so that there is always something left to disturb. */
  function spread(times: number, blow: () => Blow) {
    for (let i = 0; i < times; i += 1)
      blows.push({ ...blow(), atMs: spanMs * (0.05 + 0.9 * ((i + random.next()) / times)) });
  }
  spread(count.serviceKills, () => ({
    what: 'kill service',
    service: random.index(services),
    downMs: random.between(100, 1500),
  }));
  spread(count.engineKills, () => ({ what: 'kill engine', service: random.index(services) }));
  spread(count.freezes, () => ({
    what: 'freeze service',
    service: random.index(services),
    forMs: options.leaseSeconds * 1000 + random.between(1000, 3000),
  }));
  spread(count.redisRestarts, () => ({ what: 'restart Redis', downMs: random.between(200, 2000) }));
  spread(count.cuts, () => ({ what: 'cut Redis connections' }));
  spread(count.outages, () => ({ what: 'endpoints down', forMs: count.outageMs }));
  return { jobs: jobs.sort((a, b) => a.atMs - b.atMs), blows: blows.sort((a, b) => a.atMs - b.atMs) };
}
