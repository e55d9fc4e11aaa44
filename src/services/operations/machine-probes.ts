import { request } from 'undici';
import { roomCure, type RoomWatch } from '../../lib/data-folder.js';
import type { Trouble } from '../../lib/errors.js';
import { userAgent } from '../../lib/project.js';
import { formatGigabytes, gibibyte } from '../../lib/units.js';
import { type VideoEncoder, videoToolsCure } from '../../lib/video-tools.js';
import { orAborted, sharedFor } from '../../lib/wait.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { generationEngines, type EnginesView } from '../engines/engine-status.js';
import type { JobStore } from '../queue/job-store.js';
import type { Probe } from './troubles.js';

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
      const target = 'DATA_DIR';
      if (trouble !== null) {
        const what = trouble.code === 'disk_full' ? 'No job has room here' : 'Nothing can be written here';
        return [{ ...trouble, severity: 'critical', target, what }];
      }
      if (freeBytes === null || freeBytes >= comfortableBytes) return [];
      const cause = `only ${free} under DATA_DIR`;
      const what = 'The disk is nearly full';
      return [{ code: 'disk_low', severity: 'warning', target, what, cause, cure: roomCure }];
    },
  };
}

/** Tokens, signed addresses and signatures of callbacks are good for minutes. */
const toleratedMs = 60_000;
const askSupabaseMs = 60_000;
const clockCure =
  'Let the machine set its clock (timedatectl set-ntp true, or chrony): meanwhile tokens and signatures are refused.';

/** Compares this machine's clock with those of the servers it works with. */
export function probeClock(
  store: Pick<JobStore, 'clock'> | undefined,
  supabaseUrl: string | undefined,
): Probe {
  const others: Array<[name: string, ask: (signal: AbortSignal) => Promise<number | null>]> = [];
  if (store?.clock !== undefined) others.push(['Redis', () => store.clock?.() ?? Promise.resolve(null)]);
  if (supabaseUrl !== undefined)
    others.push(['Supabase', rememberedSkew((signal) => dateOf(supabaseUrl, signal))]);
  return {
    check: 'environment_variables',
    subject: 'clock',
    well: () => (others.length === 0 ? 'nobody to compare it with' : 'as that of the servers'),
    async look(signal) {
      for (const [name, ask] of others) {
        const theirs = await ask(signal).catch(() => null);
        if (theirs === null) continue;
        const aheadMs = Date.now() - theirs;
        if (Math.abs(aheadMs) <= toleratedMs) continue;
        const by = `${Math.round(Math.abs(aheadMs) / 1000)} s`;
        const cause = `it is ${by} ${aheadMs > 0 ? 'ahead of' : 'behind'} that of ${name}`;
        const what = "This machine's clock is wrong";
        return [{ code: 'clock_wrong', severity: 'error', target: 'clock', what, cause, cure: clockCure }];
      }
      return [];
    },
  };
}

/** Asks now and then, and at once when this machine's clock was set meanwhile. */
function rememberedSkew(ask: (signal: AbortSignal) => Promise<number | null>) {
  let known: { atMs: number; wallMs: number; theirsMs: number | null } | undefined;
  return async (signal: AbortSignal): Promise<number | null> => {
    const passedMs = performance.now() - (known?.atMs ?? 0);
    const wasSet = known !== undefined && Math.abs(Date.now() - known.wallMs - passedMs) > 1000;
    if (known === undefined || wasSet || passedMs > askSupabaseMs) {
      const theirsMs = await ask(signal);
      known = { atMs: performance.now(), wallMs: Date.now(), theirsMs };
      return theirsMs;
    }
    return known.theirsMs === null ? null : known.theirsMs + passedMs;
  };
}

async function dateOf(url: string, signal: AbortSignal): Promise<number | null> {
  const { headers, body } = await request(url, {
    method: 'HEAD',
    signal,
    headers: { 'user-agent': userAgent() },
  });
  await body.dump();
  const date = Date.parse(String(headers['date']));
  return Number.isNaN(date) ? null : date;
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
    well: () => found?.version ?? 'is still being looked for',
    async look(signal) {
      if (found === undefined || performance.now() - found.atMs > findAgainMs)
        looking ??= find().finally(() => {
          looking = undefined;
        });
      if (found === undefined && looking !== undefined && !encoder.available())
        await orAborted(looking, signal).catch(() => {});
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
export function probeDevices(
  engines: Pick<EnginesView, 'has' | 'status'>,
  gpu: Pick<GpuMonitor, 'read'>,
): Probe {
  // Reading it starts a process, and cards do not come and go.
  const card = sharedFor(findAgainMs, () => gpu.read());
  return {
    check: 'gpu_availability',
    subject: 'devices',
    well: () => 'the engines have what they were built for',
    async look() {
      const slow = generationEngines.flatMap((kind) => {
        const { loaded } = engines.status(kind);
        return loaded?.device === 'cpu' && loaded.deviceNotes.length > 0 ? [{ kind, loaded }] : [];
      });
      if (slow.length === 0) return [];
      const reading = await card();
      if (reading === null) return [];
      return slow.map(({ kind, loaded }): Trouble => ({
        code: 'device_missing',
        severity: 'warning',
        target: kind,
        what: `The ${kind} engine runs on the CPU beside ${reading.name}`,
        cause: loaded.deviceNotes.join('; '),
        cure: 'Install what it names ("ourvidz setup cuda" for an NVIDIA card), or set ORT_DEVICE=cpu.',
      }));
    },
  };
}
