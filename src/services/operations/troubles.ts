import type { Trouble } from '../../lib/errors.js';
import { orAborted, sharedFor } from '../../lib/wait.js';
import {
  describeState,
  drawingEngines,
  type EnginesView,
  type EngineStatus,
  engineTroubles,
  hasComputed,
  type Health,
  isAble,
  isDown,
  isUp,
  troubleOf,
} from '../engines/engine-status.js';
import type { CheckName } from './validation.js';

const order: readonly Trouble['severity'][] = ['critical', 'error', 'warning'];

export interface ListedTrouble extends Trouble {
  sinceMs: number;
}

/** Something that is known by asking; never of a kind that costs much, for it is asked every few seconds. */
export interface Probe {
  check: CheckName;
  subject: string;
  /** What is wrong; nothing where all is well. Rejects only where even that cannot be told. */
  look(signal: AbortSignal): Promise<Trouble[]>;
  /** What `doctor` says where all is well; absent: how long the answer took. */
  well?(): string;
}

interface TroublesOptions {
  engines: Pick<EnginesView, 'has' | 'status'>;
  probes: readonly Probe[];
  /** Known at any moment, beside the engines: what others found out, limits that come near. */
  known?: () => Trouble[];
  /** Monotonic, milliseconds. */
  now?: () => number;
}

/** The open route must not be a way to load the store: one look serves everybody for this long. */
const freshMs = 1000;
/** So often somebody looks when nobody asks. */
const periodMs = 5000;
const lookMs = 3000;
/** For a check to say what its own limit means. */
const patienceMs = 500;
const repeatMs = 3_600_000;

export type Troubles = ReturnType<typeof createTroubles>;

/** The one list of what is wrong and what to do, behind `/ready`, `/health`, `/worker/status` and the log. */
export function createTroubles({
  engines,
  probes,
  known = () => [],
  now = () => performance.now(),
}: TroublesOptions) {
  const found = new Map<Probe, Trouble[]>();
  const sinceMs = new Map<string, number>();
  const toldAtMs = new Map<string, number>();
  let timer: NodeJS.Timeout | undefined;

  const ask = sharedFor(freshMs, async () => {
    await Promise.all(
      probes.map(async (probe) => {
        const signals = [lookMs, lookMs + patienceMs].map((ms) => AbortSignal.timeout(ms));
        const [limit, end] = signals as [AbortSignal, AbortSignal];
        const seen = await orAborted(probe.look(limit), end).catch((error: unknown) => [
          notChecked(probe, error),
        ]);
        found.set(probe, seen);
      }),
    );
  });

  async function look(): Promise<ListedTrouble[]> {
    await ask();
    return list();
  }

  /** As of the last look; engines and what else needs no asking as of now. */
  function list(): ListedTrouble[] {
    const byKey = new Map<string, Trouble>();
    for (const trouble of [...known(), ...engineTroubles(engines), ...[...found.values()].flat()]) {
      const key = keyOf(trouble);
      if (!byKey.has(key)) byKey.set(key, trouble);
    }
    for (const key of sinceMs.keys()) if (!byKey.has(key)) sinceMs.delete(key);
    const listed = [...byKey].map(([key, trouble]) => {
      const since = sinceMs.get(key) ?? Date.now();
      sinceMs.set(key, since);
      return { ...trouble, sinceMs: since };
    });
    return listed.sort(
      (one, other) =>
        order.indexOf(one.severity) - order.indexOf(other.severity) || one.sinceMs - other.sinceMs,
    );
  }

  function health(): Health {
    const drawing = drawingEngines(engines);
    if (drawing.length > 0 && drawing.every(isDown)) return 'unhealthy';
    return list().some(({ severity }) => severity !== 'warning') ? 'degraded' : 'healthy';
  }

  return {
    /** After everybody was asked, a second ago at most. */
    look,
    list,
    health,
    /**
     * Ready: nothing keeps it from taking jobs, every engine has had its first start, and at least one can draw, as
     * its last run showed. What is wrong beside that is told as well.
     */
    async readiness(): Promise<{ ready: boolean; reasons: string[]; troubles: ListedTrouble[] }> {
      const troubles = await look();
      const drawing = drawingEngines(engines);
      const waits = drawing.filter((status) => !isUp(status) && troubleOf(status) === null);
      const sentence = (status: EngineStatus) => `the ${describeState(status)}`;
      const told = (some: readonly Trouble[]) =>
        some.map(
          ({ what, cause }) => `${what.replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase())}: ${cause}`,
        );
      const critical = troubles.filter(({ severity }) => severity === 'critical');
      const blocking = [
        ...told(critical),
        ...waits.filter((status) => !hasComputed(status)).map(sentence),
        ...(critical.length === 0 && drawing.length > 0 && !drawing.some(isAble) && waits.some(hasComputed)
          ? ['no engine can draw']
          : []),
      ];
      return {
        ready: blocking.length === 0,
        reasons: [
          ...blocking,
          ...told(troubles.filter(({ severity }) => severity !== 'critical')),
          ...waits.filter(hasComputed).map(sentence),
        ],
        troubles,
      };
    },
    /** Those that begin now, or go on since an hour: for the log. */
    toTell(): ListedTrouble[] {
      const troubles = list();
      for (const key of toldAtMs.keys())
        if (!troubles.some((trouble) => keyOf(trouble) === key)) toldAtMs.delete(key);
      return troubles.filter((trouble) => {
        if (now() - (toldAtMs.get(keyOf(trouble)) ?? -Infinity) < repeatMs) return false;
        toldAtMs.set(keyOf(trouble), now());
        return true;
      });
    },
    start(): void {
      timer ??= setInterval(() => void ask(), periodMs).unref();
    },
    stop: () => clearInterval(timer),
  };
}

const keyOf = ({ code, target = '' }: Trouble) => `${code} ${target}`;

const notChecked = ({ subject }: Probe, error: unknown): Trouble => ({
  code: 'check_failed',
  severity: 'warning',
  target: subject,
  what: `The check of ${subject} did not end`,
  cause: error instanceof Error ? error.message : String(error),
  cure: 'Find out why it hangs: "ourvidz doctor" looks again.',
});

/**
 * The same text for routes that need no key: no folders, hosts or ports of this machine, for these are nobody's
 * business who may not look after it.
 */
export const forStrangers = (text: string): string =>
  text
    .replace(/\b[a-z][a-z+.-]*:\/\/[^\s"',;]+/gi, '(address)')
    .replace(/(?<![\w./])(?!\/worker\/)\/(?:[^\s/"',;:]+\/)+([^\s/"',;:]+)/g, '$1')
    .replace(/(?<![\w.-])[a-z][\w.-]*:\d{2,5}\b/gi, '(address)')
    .replace(/\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b/g, '(address)');
