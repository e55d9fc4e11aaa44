import type { JobStatus } from '../../src/services/queue/job-store.js';
import { hostilePayload, hostileReference } from './hostile.js';
import { createRandom } from './random.js';

/**
 * `twice` is pushed a second time later on, `cancelled` has its cancellation asked for while it waits or
 * runs, `impersonated` has another payload with its id pushed onto the other list.
 */
export type JobKind =
  | 'plain'
  | 'twice'
  | 'cancelled'
  | 'invalid'
  | 'garbage'
  | 'impersonated'
  | 'hostile payload'
  | 'hostile reference';

export interface PlannedJob {
  kind: JobKind;
  /** The kind, and what is hostile about it. */
  name: string;
  /** Empty for what is no job. */
  id: string;
  payload: string | Buffer;
  /** How it may end; empty: it is no job. */
  outcomes: readonly JobStatus[];
  /** Must be kept as a dead letter. */
  letter: string | Buffer | null;
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
  | { what: 'freeze engine'; service: number; forMs: number }
  | { what: 'freeze Redis'; forMs: number }
  | { what: 'restart Redis'; downMs: number }
  | { what: 'cut Redis connections' }
  /** To its replica, behind the address that all know. */
  | { what: 'fail Redis over' }
  /** Its memory is at its limit: it takes nothing that may need more. */
  | { what: 'fill Redis'; forMs: number }
  /** Storage and the receiver of callbacks refuse this one service. */
  | { what: 'expire a key'; service: number; forMs: number }
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
  /** Of the jobs, so many have a hostile payload, and as many a hostile reference. */
  hostileShare: number;
  /** How many of each blow. */
  blows: {
    serviceKills: number;
    engineKills: number;
    serviceFreezes: number;
    engineFreezes: number;
    redisFreezes: number;
    redisRestarts: number;
    cuts: number;
    failovers: number;
    fills: number;
    fillMs: number;
    expiries: number;
    expiryMs: number;
    outages: number;
    outageMs: number;
  };
}

const outcomes: Partial<Record<JobKind, readonly JobStatus[]>> = {
  cancelled: ['completed', 'cancelled'],
  invalid: ['failed'],
};
const noJob = (payload: string | Buffer) => ({ id: '', payload, outcomes: [], letter: payload });

/** Everything that is going to happen, from the seed alone. */
export function planChaos(options: ChaosOptions): { jobs: PlannedJob[]; blows: PlannedBlow[] } {
  const random = createRandom(options.seed);
  const { spanMs, services, hostileShare, blows: count } = options;
  const userId = random.uuid();

  // Each hostile kind in its turn, from one the seed chooses.
  let payloadIndex = random.index(100);
  let referenceIndex = random.index(100);
  const shares: ReadonlyArray<readonly [JobKind, number]> = [
    ['twice', 0.03],
    ['cancelled', 0.03],
    ['invalid', 0.02],
    ['garbage', 0.01],
    ['impersonated', 0.01],
    ['hostile payload', hostileShare],
    ['hostile reference', hostileShare],
  ];
  function drawKind(): JobKind {
    let rest = random.next();
    for (const [kind, share] of shares) {
      if (rest < share) return kind;
      rest -= share;
    }
    return 'plain';
  }

  const jobs = Array.from({ length: options.jobs }, (_, index): PlannedJob => {
    const kind = drawKind();
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
    const planned: PlannedJob = {
      kind,
      name: kind,
      images,
      atMs,
      againAtMs: atMs + random.between(0, spanMs / 3),
      id,
      payload: JSON.stringify(job),
      outcomes: outcomes[kind] ?? ['completed'],
      letter: null,
    };
    if (kind === 'garbage') return { ...planned, ...noJob(`{"id": "${id}", no JSON`) };
    if (kind === 'impersonated') return { ...planned, letter: JSON.stringify({ id, type: 'nonsense' }) };
    if (!kind.startsWith('hostile')) return planned;
    const hostile =
      kind === 'hostile payload'
        ? hostilePayload(payloadIndex++, job)
        : hostileReference(referenceIndex++, job);
    return {
      ...planned,
      ...(hostile.outcomes.length === 0 ? noJob(hostile.payload) : hostile),
      name: `${kind}: ${hostile.name}`,
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
  const beyondLease = () => options.leaseSeconds * 1000 + random.between(1000, 3000);
  spread(count.serviceFreezes, () => ({
    what: 'freeze service',
    service: random.index(services),
    forMs: beyondLease(),
  }));
  spread(count.engineFreezes, () => ({
    what: 'freeze engine',
    service: random.index(services),
    forMs: beyondLease(),
  }));
  spread(count.redisFreezes, () => ({ what: 'freeze Redis', forMs: beyondLease() }));
  spread(count.redisRestarts, () => ({ what: 'restart Redis', downMs: random.between(200, 2000) }));
  spread(count.cuts, () => ({ what: 'cut Redis connections' }));
  spread(count.outages, () => ({ what: 'endpoints down', forMs: count.outageMs }));
  spread(count.failovers, () => ({ what: 'fail Redis over' }));
  spread(count.fills, () => ({ what: 'fill Redis', forMs: count.fillMs }));
  spread(count.expiries, () => ({
    what: 'expire a key',
    service: random.index(services),
    forMs: count.expiryMs,
  }));
  return { jobs: jobs.sort((a, b) => a.atMs - b.atMs), blows: blows.sort((a, b) => a.atMs - b.atMs) };
}
