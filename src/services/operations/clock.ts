import { request } from 'undici';
import { userAgent } from '../../lib/project.js';
import type { JobStore } from '../queue/job-store.js';
import type { Probe } from './troubles.js';

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
