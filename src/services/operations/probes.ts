import type { Trouble } from '../../lib/errors.js';
import { roomCure, type RoomWatch } from '../../lib/data-folder.js';
import { withoutCredentials } from '../../lib/printable.js';
import { keyTrouble } from '../../lib/supabase.js';
import { formatGigabytes, gibibyte } from '../../lib/units.js';
import { type VideoEncoder, videoToolsCure } from '../../lib/video-tools.js';
import { orAborted } from '../../lib/wait.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { generationEngines, type EnginesView } from '../engines/engine-status.js';
import { isWorkersFault } from '../jobs/capabilities.js';
import { QueueUnavailable } from '../queue/index.js';
import type { JobStore } from '../queue/job-store.js';
import type { Storage } from '../storage/storage.js';
import { probeClock } from './clock.js';
import type { Probe } from './troubles.js';

export interface ProbeParts {
  room: RoomWatch;
  /** Absent where opening it is not for whoever asks: an embedded queue belongs to one process. */
  store?: Pick<JobStore, 'kind' | 'ping' | 'clock'>;
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
  const { room, store, storage, supabaseUrl, supabaseServiceKey, engines } = parts;
  return [
    probeRoom(room),
    ...(store === undefined ? [] : [probeQueue(store)]),
    probeStorage(storage, room),
    ...(supabaseServiceKey === undefined ? [] : [probeKey(supabaseServiceKey)]),
    probeClock(store, supabaseUrl),
    probeFfmpeg(parts.videoEncoder),
    ...(engines === undefined ? [] : [probeDevices(engines, parts.gpu)]),
  ];
}

/** Enough for a while; a warning. */
const comfortableBytes = 2 * gibibyte;

export function probeRoom(room: Pick<RoomWatch, 'look'>): Probe {
  let free = '';
  return {
    check: 'environment_variables',
    subject: 'DATA_DIR',
    well: () => free,
    async look() {
      const { freeBytes, trouble } = await room.look();
      free = `${formatGigabytes(freeBytes)} are free`;
      const common = { target: 'DATA_DIR', cure: roomCure };
      if (trouble !== null)
        return [
          {
            ...common,
            code: 'disk_full',
            severity: 'critical',
            what: 'No job has room here',
            cause: trouble,
          },
        ];
      if (freeBytes === null || freeBytes >= comfortableBytes) return [];
      const cause = `only ${free} under DATA_DIR`;
      return [{ ...common, code: 'disk_low', severity: 'warning', what: 'The disk is nearly full', cause }];
    },
  };
}

function probeQueue(store: Pick<JobStore, 'kind' | 'ping'>): Probe {
  const isRedis = store.kind === 'redis';
  return {
    check: 'environment_variables',
    subject: `${store.kind} queue`,
    async look() {
      try {
        await store.ping();
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
              ? 'Start the Redis server, or set REDIS_URL to where it is. Jobs wait in it meanwhile; nothing is lost.'
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

/** Looking for it starts processes. */
const findAgainMs = 30_000;

/** Without an encoder pictures are still made. */
export function probeFfmpeg(encoder: Pick<VideoEncoder, 'find' | 'available'>): Probe {
  let found: { atMs: number; version: string | null } | undefined;
  let looking: Promise<void> | undefined;

  /** Goes on when nobody waits for it any longer. */
  async function find(): Promise<void> {
    const version = (await encoder.find())?.version ?? null;
    found = { version, atMs: performance.now() };
  }

  return {
    check: 'python_dependencies',
    subject: 'ffmpeg',
    well: () => found?.version ?? 'found at the start',
    async look(signal) {
      if (found === undefined || performance.now() - found.atMs > findAgainMs)
        looking ??= find().finally(() => {
          looking = undefined;
        });
      if (found === undefined && looking !== undefined && !encoder.available())
        await orAborted(looking, signal);
      if (found?.version !== null) return [];
      const cause = 'no ffmpeg with libx264, or no ffprobe, is found';
      const what = 'Videos cannot be encoded';
      return [
        { code: 'ffmpeg_missing', severity: 'warning', target: 'ffmpeg', what, cause, cure: videoToolsCure },
      ];
    },
  };
}

/** A GPU is there, and an engine computes without it. */
function probeDevices(engines: Pick<EnginesView, 'has' | 'status'>, gpu: Pick<GpuMonitor, 'read'>): Probe {
  return {
    check: 'gpu_availability',
    subject: 'devices',
    well: () => 'the engines have what they were built for',
    async look() {
      const reading = await gpu.read();
      if (reading === null) return [];
      return generationEngines.flatMap((kind): Trouble[] => {
        const { loaded } = engines.status(kind);
        if (!engines.has(kind) || loaded?.device !== 'cpu' || loaded.deviceNotes.length === 0) return [];
        return [
          {
            code: 'device_missing',
            severity: 'warning',
            target: kind,
            what: `The ${kind} engine runs on the CPU beside ${reading.name}`,
            cause: loaded.deviceNotes.join('; '),
            cure: 'Install what it names ("ourvidz setup cuda" for an NVIDIA card), or set ORT_DEVICE=cpu.',
          },
        ];
      });
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
