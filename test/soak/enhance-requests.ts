import { testUserId } from '../helpers/jobs.js';
import type { Random } from '../chaos/random.js';

export interface Sent {
  status: number;
  text: string;
  /** Of a job. */
  id?: string | undefined;
}

export interface PlannedRequest {
  kind: string;
  /** Statuses it may end with; 0 is a client that left. */
  allowed: number[];
  /** May be turned away when too many wait. */
  asksModel: boolean;
  send: (base: string) => Promise<Sent>;
}

interface Kind {
  share: number;
  allowed: number[];
  asksModel?: boolean;
  send: (random: Random, client: Client) => (base: string) => Promise<Sent>;
}

type Client = (
  base: string,
  method: string,
  route: string,
  body?: unknown,
  init?: RequestInit,
) => Promise<Response>;

const colours = ['red', 'blue', 'green', 'yellow', 'purple', 'orange'];
const shapes = ['circle', 'square', 'star', 'triangle', 'heart'];
const foreign = [
  'a Zyrkonian trolley',
  'eine kleine Nachtmusik über dem See',
  '一只红色的猫坐在窗边',
  'NASA ROCKET LAUNCH, T-10',
  'one, two, three; four',
  'кот и собака',
];
const pick = <T>(random: Random, of: readonly T[]) => of[random.index(of.length)] as T;
const drawn = (random: Random) => `a ${pick(random, colours)} ${pick(random, shapes)}`;
const session = (random: Random) => ({ model: 'qwen_instruct', session_id: `session ${random.index(40)}` });

const read = async (answer: Response): Promise<Sent> => ({
  status: answer.status,
  text: await answer.text(),
});
const plain =
  (body: (random: Random) => unknown): Kind['send'] =>
  (random, client) => {
    const planned = body(random);
    return async (base) => read(await client(base, 'POST', '/enhance', planned));
  };

/** Leaves after so many pieces of the answer; 0: after some time, whatever came. */
const leaving =
  (pieces: number): Kind['send'] =>
  (random, client) => {
    const body = { prompt: drawn(random), stream: true, ...(random.chance(0.3) ? session(random) : {}) };
    const afterMs = random.between(0, 60);
    return async (base) => {
      const gone = new AbortController();
      const timer = pieces === 0 ? setTimeout(() => gone.abort(), afterMs) : undefined;
      try {
        const answer = await client(base, 'POST', '/enhance', body, { signal: gone.signal });
        const reader = answer.body?.getReader();
        if (answer.status !== 200) return await read(answer);
        for (let piece = 0; piece < pieces || pieces === 0; piece += 1)
          if ((await reader?.read())?.done !== false) break;
        gone.abort();
        return { status: 0, text: '' };
      } catch (error) {
        if (gone.signal.aborted) return { status: 0, text: '' };
        throw error;
      } finally {
        clearTimeout(timer);
      }
    };
  };

const bad: Array<(random: Random) => unknown> = [
  () => ({}),
  () => ({ prompt: '' }),
  () => ({ prompt: 7 }),
  () => ({ prompt: 'x'.repeat(20_000) }),
  () => ({ prompt: 'a cat', target: 'song' }),
  () => ({ prompt: 'a cat', max_tokens: 0 }),
  () => ({ prompt: 'a cat', temperature: 9 }),
  () => ({ prompt: 'a cat', seed: -1 }),
  () => ({ prompt: 'a cat', session_id: 7 }),
  () => ({ prompt: 'a cat', template: 'none such' }),
  () => ({ prompt: 'a cat\u0000' }),
  () => [1, 2],
];

const kinds: Record<string, Kind> = {
  base: {
    share: 20,
    allowed: [200],
    asksModel: true,
    send: plain((random) => ({
      prompt: drawn(random),
      seed: random.index(1000),
      target: pick(random, ['image', 'video']),
    })),
  },
  outside: {
    share: 10,
    allowed: [200, 503],
    asksModel: true,
    send: plain((random) => ({
      prompt: pick(random, foreign),
      temperature: random.between(0, 1.5),
      max_tokens: 1 + random.index(200),
    })),
  },
  chat: {
    share: 14,
    allowed: [200],
    asksModel: true,
    send: plain((random) => ({
      prompt: random.chance(0.5) ? drawn(random) : 'make it night',
      ...session(random),
      ...(random.chance(0.2) ? { conversation_context: 'the picture is for a card' } : {}),
    })),
  },
  'instruct without session': {
    share: 5,
    allowed: [200],
    asksModel: true,
    send: plain((random) => ({ prompt: drawn(random), model: 'qwen_instruct' })),
  },
  'very long': {
    share: 2,
    allowed: [200, 400, 422, 503],
    asksModel: true,
    send: plain((random) => ({ prompt: `${drawn(random)}, `.repeat(60).slice(0, 1900), max_tokens: 40 })),
  },
  stream: {
    share: 12,
    allowed: [200],
    asksModel: true,
    send: plain((random) => ({
      prompt: drawn(random),
      stream: true,
      ...(random.chance(0.3) ? session(random) : {}),
    })),
  },
  'leaves in the stream': { share: 9, allowed: [0], asksModel: true, send: leaving(2) },
  'leaves at any time': { share: 9, allowed: [0, 200], asksModel: true, send: leaving(0) },
  bad: { share: 8, allowed: [400, 422], send: plain((random) => pick(random, bad)(random)) },
  'no JSON': {
    share: 2,
    allowed: [400],
    send: (_random, client) => async (base) =>
      read(
        await client(base, 'POST', '/enhance', undefined, {
          body: '{"prompt": ',
          headers: { 'content-type': 'application/json' },
        }),
      ),
  },
  'no key': {
    share: 2,
    allowed: [401],
    send: () => async (base) =>
      read(
        await fetch(`${base}/enhance`, {
          method: 'POST',
          body: '{"prompt":"a cat"}',
          headers: { 'content-type': 'application/json' },
        }),
      ),
  },
  denied: {
    share: 4,
    allowed: [422],
    send: plain((random) => ({ prompt: `a forbidden ${pick(random, shapes)}` })),
  },
  'session ends': {
    share: 3,
    allowed: [204],
    send: (random, client) => {
      const id = encodeURIComponent(session(random).session_id);
      return async (base) => read(await client(base, 'DELETE', `/enhance/sessions/${id}`));
    },
  },
  job: {
    share: 2,
    allowed: [202],
    send: (random, client) => {
      const id = random.uuid();
      const body = {
        id,
        type: 'image7b_fast_enhanced',
        prompt: drawn(random),
        user_id: testUserId,
        config: { seed: random.index(1000) },
        metadata: random.chance(0.5) ? { session_id: 'of a job' } : {},
      };
      return async (base) => ({ ...(await read(await client(base, 'POST', '/jobs', body))), id });
    },
  },
};
const shares = Object.values(kinds).reduce((sum, { share }) => sum + share, 0);

/** A request of some kind, or of the kind named. */
export function planRequest(random: Random, apiKey: string, name?: string): PlannedRequest {
  let dice = random.next() * shares;
  const kind = name ?? Object.entries(kinds).find(([, { share }]) => (dice -= share) < 0)?.[0] ?? 'base';
  const { allowed, asksModel = false, send } = kinds[kind] as Kind;
  const client: Client = (base, method, route, body, init = {}) =>
    fetch(`${base}${route}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...init,
      headers: {
        authorization: `Bearer ${apiKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(init.headers as Record<string, string> | undefined),
      },
    });
  return { kind, allowed, asksModel, send: send(random, client) };
}
