import type { RoomWatch } from '../../lib/data-folder.js';
import type { Trouble } from '../../lib/errors.js';
import { withoutCredentials } from '../../lib/printable.js';
import type { VideoEncoder } from '../../lib/video-tools.js';
import { orAborted } from '../../lib/wait.js';
import { keyTrouble } from '../../lib/supabase.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import type { EnginesView } from '../engines/engine-status.js';
import { isWorkersFault } from '../jobs/capabilities.js';
import { QueueUnavailable } from '../queue/index.js';
import type { JobStore } from '../queue/job-store.js';
import type { Hold } from '../queue/store-parts.js';
import type { Storage } from '../storage/storage.js';
import { probeClock, probeDevices, probeFfmpeg, probeRoom } from './machine-probes.js';
import type { Probe } from './troubles.js';

export interface ProbeParts {
  room: RoomWatch;
  /** Absent where opening it is not for whoever asks: an embedded queue belongs to one process. */
  store?: Pick<JobStore, 'kind' | 'ping' | 'clock' | 'holds'>;
  /** This instance; absent where no service runs. */
  workerId?: string;
  storage: Pick<Storage, 'kind' | 'ping'>;
  /** Callbacks and registration go there, wherever files go. */
  supabaseUrl?: string | undefined;
  supabaseServiceKey?: string | undefined;
  videoEncoder: Pick<VideoEncoder, 'find' | 'available'>;
  gpu: Pick<GpuMonitor, 'read'>;
  /** Absent where no service runs. */
  engines?: Pick<EnginesView, 'has' | 'status'>;
}

/** What is asked to know what is wrong, for the parts a service is built from. */
export function createProbes(parts: ProbeParts): Probe[] {
  const { room, store, storage, supabaseUrl, supabaseServiceKey, engines, workerId } = parts;
  return [
    probeRoom(room),
    ...(store === undefined ? [] : [probeQueue(store)]),
    probeStorage(storage, room),
    ...(supabaseServiceKey === undefined ? [] : [probeKey(supabaseServiceKey)]),
    probeClock(store, supabaseUrl),
    probeFfmpeg(parts.videoEncoder),
    ...(engines === undefined ? [] : [probeDevices(engines, parts.gpu)]),
    ...(store === undefined || workerId === undefined ? [] : [probeHolds(store, workerId)]),
  ];
}

function probeQueue(store: Pick<JobStore, 'kind' | 'ping'>): Probe {
  const isRedis = store.kind === 'redis';
  return {
    check: 'environment_variables',
    subject: `${store.kind} queue`,
    async look(signal) {
      try {
        await orAborted(store.ping(), signal);
        return [];
      } catch (error) {
        return [
          {
            code: 'queue_unreachable',
            severity: 'critical',
            target: `${store.kind} queue`,
            what: error instanceof QueueUnavailable ? error.sentence : 'The queue does not answer',
            cause: causeOf(error),
            cure: isRedis
              ? /WRONGTYPE/.test(causeOf(error))
                ? 'Ask Redis for TYPE sdxl_queue and TYPE wan_queue: both must be lists. Rename or delete what is none.'
                : 'Start the Redis server, or set REDIS_URL to where it is. Jobs wait in it meanwhile; nothing is lost.'
              : 'See that DATA_DIR can be written and its disk is well, then start the service again.',
          },
        ];
      }
    },
  };
}

function probeStorage(storage: Pick<Storage, 'kind' | 'ping'>, room: Pick<RoomWatch, 'trouble'>): Probe {
  return {
    check: 'environment_variables',
    subject: `${storage.kind} storage`,
    async look(signal) {
      try {
        await storage.ping(signal);
        return [];
      } catch (error) {
        if (isWorkersFault(error)) return storageRefuses(storage.kind, error.message, room);
        return [
          {
            code: 'storage_unreachable',
            severity: 'critical',
            target: `${storage.kind} storage`,
            what: 'The storage does not answer',
            cause: causeOf(error),
            cure:
              storage.kind === 'supabase'
                ? 'See that SUPABASE_URL is right and this machine reaches it. Finished files are kept and sent later.'
                : 'See that DATA_DIR can be written and its disk is well.',
          },
        ];
      }
    },
  };
}

/** The storage refuses this worker as such; of a folder on a full disk the disk says it. */
export function storageRefuses(
  kind: Storage['kind'],
  cause: string,
  room: Pick<RoomWatch, 'trouble'>,
): Trouble[] {
  if (kind === 'folder' && room.trouble() !== null) return [];
  const isSupabase = kind === 'supabase';
  return [
    {
      code: 'storage_refuses',
      severity: 'critical',
      target: `${kind} storage`,
      what: 'Files cannot be stored',
      cause,
      cure: isSupabase
        ? 'Set SUPABASE_SERVICE_KEY to the secret or service_role key of the project. Jobs wait meanwhile.'
        : 'See that this user may write DATA_DIR and that its disk is well. Jobs wait meanwhile.',
    },
  ];
}

function probeKey(key: string): Probe {
  return {
    check: 'environment_variables',
    subject: 'supabase key',
    well: () => 'nothing it says is against it',
    async look() {
      const trouble = keyTrouble(key);
      if (trouble === null) return [];
      const { severity, message } = trouble;
      return [
        {
          code: severity === 'error' ? 'key_invalid' : 'key_doubtful',
          severity,
          target: 'supabase key',
          what: severity === 'error' ? 'Supabase refuses the key' : 'The key of Supabase may not do',
          cause: message,
          cure: 'Set SUPABASE_SERVICE_KEY to the secret or service_role key of the project.',
        },
      ];
    },
  };
}

/** What operators hold: on purpose, and easily forgotten. */
function probeHolds({ holds }: Pick<JobStore, 'holds'>, workerId: string): Probe {
  const by = (hold: Hold) => hold.by + (hold.reason === undefined ? '' : `: ${hold.reason}`);
  return {
    check: 'environment_variables',
    subject: 'holds',
    well: () => 'no queue is paused, and this instance takes jobs',
    async look() {
      // A queue that does not answer is another probe's.
      const held = await holds.list().catch(() => null);
      const own = held?.workers.get(workerId);
      const paused = Object.entries(held?.queues ?? {}).map(([queue, hold]): Trouble => ({
        code: 'queue_paused',
        severity: 'warning',
        target: queue,
        what: `${queue} is paused`,
        cause: `held by ${by(hold)}`,
        cure: `"ourvidz queue resume ${queue}" when its jobs are to be drawn again. They wait meanwhile.`,
      }));
      if (own === undefined) return paused;
      const cure = '"ourvidz instance resume" when it is to take jobs again.';
      const what = 'This instance is drained';
      return [
        {
          code: 'instance_drained',
          severity: 'critical',
          target: 'instance',
          what,
          cause: `by ${by(own)}`,
          cure,
        },
        ...paused,
      ];
    },
  };
}

/** What a server's failure says, without the secrets of its address. */
function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return 'no answer within 3 s';
  const inner = error instanceof QueueUnavailable && error.cause instanceof Error ? error.cause : error;
  return withoutCredentials(inner.message);
}
