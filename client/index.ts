/**
 * A client of the OurVidz worker for browsers, edge functions and Node. Typed by openapi.yaml; a folder of plain ES
 * modules that import nothing from outside it.
 */
import type { components, operations } from '../src/contract/generated.js';
import { ConnectionError, errorOf, OurVidzError } from './errors.js';
import { readEvents, type StreamEvent } from './event-stream.js';
import { routes } from './operations.js';

export { ConnectionError, OurVidzError } from './errors.js';
export { type JobCallback, verifyWebhook, WebhookError, type WebhookOptions } from './webhook.js';

type Schemas = components['schemas'];
export type Job = Schemas['Job'];
export type JobPayload = Schemas['JobPayload'];
export type JobEvent =
  | { id: string | undefined; event: 'state'; data: Schemas['JobStateEvent'] }
  | { id: string | undefined; event: 'progress'; data: Schemas['JobProgress'] }
  | { id: string | undefined; event: 'preview'; data: Schemas['JobPreviewEvent'] };
/** Of any job. */
export type AnyJobEvent =
  | { id: string; event: 'state'; data: Schemas['AnyJobState'] }
  | { id: undefined; event: 'progress'; data: Schemas['AnyJobProgress'] }
  | { id: undefined; event: 'preview'; data: Schemas['AnyJobPreview'] }
  /** Something was missed: `listJobs` says how things stand. */
  | { id: undefined; event: 'reset'; data: Schemas['Reset'] };
export type EnhanceEvent =
  | { event: 'token'; data: Schemas['EnhanceToken'] }
  | { event: 'discard'; data: Schemas['EnhanceDiscard'] }
  | { event: 'done'; data: Schemas['EnhanceAnswer'] }
  | { event: 'error'; data: Schemas['EnhanceFailure'] };

export interface ClientOptions {
  /** Where the service is; a path in it stays. */
  url: string;
  /** The API key, or a token of `POST /tokens`; a function is asked before each request, so that a token can be renewed. */
  key?: string | undefined | (() => string | undefined | Promise<string | undefined>);
  fetch?: typeof fetch;
}
export interface CallOptions {
  signal?: AbortSignal;
}
export interface FollowOptions extends CallOptions {
  /** Only what came after this event. */
  lastEventId?: string | undefined;
  /** Without any answer for this long, following ends with the error; the job itself goes on. */
  giveUpAfterMs?: number;
}

/** Operations whose answer is no JSON have functions of their own. */
type Apart = 'followJob' | 'followJobs' | 'getAsset' | 'headAsset' | 'getDocs' | 'createReference';
type Id = Exclude<keyof typeof routes, Apart>;
type Values<T> = [Exclude<T, undefined>] extends [never] ? unknown : Exclude<T, undefined>;
type BodyOf<Op> = Op extends { requestBody: { content: { 'application/json': infer Body } } }
  ? { body: Body }
  : unknown;
/** Parameters of path, query and headers side by side, and `body`. */
type Arguments<Op extends { parameters: { path?: unknown; query?: unknown; header?: unknown } }> = Values<
  Op['parameters']['path']
> &
  Values<Op['parameters']['query']> &
  Values<Op['parameters']['header']> &
  BodyOf<Op>;
type Content<Response> = Response extends { content: { 'application/json': infer Body } }
  ? Body
  : Response extends { content: { 'text/plain': infer Text } }
    ? Text
    : undefined;
type Success<Responses> = {
  [Status in keyof Responses & (200 | 201 | 202 | 204)]: Content<Responses[Status]>;
};
type Answer<Op extends { responses: object }> = Success<Op['responses']>[keyof Success<Op['responses']>];
type Calls = {
  [K in Id]: Record<string, never> extends Arguments<operations[K]>
    ? (parameters?: Arguments<operations[K]>, options?: CallOptions) => Promise<Answer<operations[K]>>
    : (parameters: Arguments<operations[K]>, options?: CallOptions) => Promise<Answer<operations[K]>>;
};

export type Client = ReturnType<typeof createClient>;

/**
 * @example
 *   const ourvidz = createClient({ url: 'https://worker.example', key });
 *   const { id } = await ourvidz.createJob({ body: { type: 'sdxl_image_fast', prompt, user_id } });
 *   for await (const event of ourvidz.followJob(id)) console.log(event);
 */
export function createClient(options: ClientOptions) {
  const base = options.url.replace(/\/+$/, '');
  const { username, password } = new URL(base);
  // fetch refuses such an address with an error that looks like a service that is away.
  if (username + password !== '')
    throw new TypeError('Give the address without user and password, the key as key');
  const send = options.fetch ?? ((input, init) => fetch(input, init));

  /** Absolute, of what `assets` of a job lists: folder storage names paths of the service itself. */
  const addressOf = (target: string) =>
    new URL(/^[a-z][a-z0-9+.-]*:/i.test(target) ? target : `${base}/${target.replace(/^\/+/, '')}`);

  /** An answer of 2xx. @throws OurVidzError, ConnectionError, or the signal's reason */
  async function request(target: string, init: RequestInit): Promise<Response> {
    const address = addressOf(target);
    const headers = new Headers(init.headers);
    // Assets may lie on another host (Supabase): the key is for the service alone.
    if (address.origin === new URL(base).origin) {
      const key = typeof options.key === 'function' ? await options.key() : options.key;
      if (key !== undefined) headers.set('authorization', `Bearer ${key}`);
    }
    const response = await send(address.href, { ...init, headers }).catch((error: unknown) => {
      throw broken(error, init.signal, `No service answers at ${base}`);
    });
    if (!response.ok) throw await errorOf(response);
    return response;
  }

  function broken(error: unknown, signal: AbortSignal | null | undefined, what: string): unknown {
    return signal?.aborted === true ? error : new ConnectionError(base, what, { cause: error });
  }

  async function call(id: keyof typeof routes, parameters: Record<string, unknown>, { signal }: CallOptions) {
    const [method, path, query, header] = routes[id];
    const { body } = parameters;
    const given = (names: readonly string[]) =>
      names.flatMap((name): Array<[string, string]> => {
        const value = parameters[name];
        return value === undefined || value === null ? [] : [[name, String(value)]];
      });
    const headers = new Headers(given(header));
    if (body !== undefined) headers.set('content-type', 'application/json');
    const search = new URLSearchParams(given(query)).toString();
    const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
      String(parameters[name])
        .split('/')
        .map(encodeURIComponent)
        .join(name === 'path' ? '/' : '%2F'),
    );
    const response = await request(search === '' ? filled : `${filled}?${search}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
    const text = await response.text().catch((error: unknown) => {
      throw broken(error, signal, `The answer of ${base} broke off`);
    });
    if (text === '' || response.headers.get('content-type')?.startsWith('text/') === true)
      return text || undefined;
    try {
      return JSON.parse(text) as unknown;
    } catch {
      const problem = `${base} answered ${filled} with something that is not JSON; is it an OurVidz worker?`;
      throw new OurVidzError(problem, response.status, '');
    }
  }

  async function* stream(target: string, init: RequestInit, onOpen = () => {}): AsyncGenerator<StreamEvent> {
    const response = await request(target, {
      ...init,
      headers: { accept: 'text/event-stream', ...(init.headers as Record<string, string>) },
    });
    onOpen();
    if (response.body === null) return;
    try {
      yield* readEvents(response.body);
    } catch (error) {
      throw broken(error, init.signal, `The events of ${base} broke off`);
    }
  }

  const calls = Object.fromEntries(
    Object.keys(routes).map((id) => [
      id,
      (parameters: Record<string, unknown> = {}, callOptions: CallOptions = {}) =>
        call(id as keyof typeof routes, parameters, callOptions),
    ]),
  ) as unknown as Calls;

  /**
   * Events of a job until it is over, the last one its end. A stream that breaks off (a restart of the service, a
   * proxy's limit) goes on where it ended.
   */
  async function* followJob(
    id: string,
    { signal, lastEventId, giveUpAfterMs = 60_000 }: FollowOptions = {},
  ): AsyncGenerator<JobEvent> {
    const target = `/jobs/${encodeURIComponent(id)}/events`;
    const cancel = signal === undefined ? {} : { signal };
    const patience = createPatience(giveUpAfterMs);
    let lastId = lastEventId;
    for (;;) {
      try {
        const headers: Record<string, string> = lastId === undefined ? {} : { 'last-event-id': lastId };
        for await (const message of stream(target, { headers, ...cancel })) {
          patience.renew();
          lastId = message.id ?? lastId;
          const event = { ...message, data: JSON.parse(message.data) as unknown } as JobEvent;
          yield event;
          if (event.event === 'state' && isOver(event.data.status)) return;
        }
        // The stream ended without the job's end: the service stopped, or the end was in an earlier stream.
        const { status, attempts, assets, error_message: error } = await calls.getJob({ id }, cancel);
        patience.renew();
        if (isOver(status)) {
          const data = { status, attempts, assets, ...(error === undefined ? {} : { error_message: error }) };
          yield { id: lastId, event: 'state', data };
          return;
        }
      } catch (error) {
        patience.bear(error);
      }
      await pause(500, signal);
    }
  }

  /**
   * Events of all jobs, until the signal aborts. A stream that breaks off goes on where it ended; `onOpen` is called
   * whenever one has begun: whatever happens from then on is told.
   */
  async function* followJobs({
    signal,
    lastEventId,
    previews = true,
    giveUpAfterMs = 60_000,
    onOpen = () => {},
  }: FollowOptions & { previews?: boolean; onOpen?: () => void } = {}): AsyncGenerator<AnyJobEvent> {
    const patience = createPatience(giveUpAfterMs);
    let lastId = lastEventId;
    const isEnded = () => signal?.aborted === true;
    while (!isEnded()) {
      try {
        const headers: Record<string, string> = lastId === undefined ? {} : { 'last-event-id': lastId };
        const init = { headers, ...(signal === undefined ? {} : { signal }) };
        for await (const message of stream(previews ? '/events' : '/events?previews=false', init, onOpen)) {
          patience.renew();
          lastId = message.id ?? lastId;
          yield { ...message, data: JSON.parse(message.data) as unknown } as AnyJobEvent;
        }
        patience.renew();
      } catch (error) {
        if (isEnded()) return;
        patience.bear(error);
      }
      await pause(500, signal).catch(() => {});
    }
  }

  return {
    ...(calls as Omit<Calls, Apart>),
    url: base,
    /** Absolute. With a token in it, for elements that send no headers; only where it is the service's own. */
    addressOf(asset: string, token?: string): string {
      const address = addressOf(asset);
      if (token !== undefined && address.origin === new URL(base).origin)
        address.searchParams.set('token', token);
      return address.href;
    },
    followJob,
    followJobs,

    /** A small picture of an asset, by its `bucket/path` in `metadata.asset_paths`; absolute, with a token in it if need be. */
    thumbnailOf(assetPath: string, size: 64 | 128 | 256 | 512, token?: string): string {
      const address = addressOf(`/assets/${assetPath.split('/').map(encodeURIComponent).join('/')}`);
      address.searchParams.set('size', String(size));
      if (token !== undefined) address.searchParams.set('token', token);
      return address.href;
    },

    /** The job once it is over, however it ended. */
    async finishedJob(id: string, follow: FollowOptions = {}): Promise<Job> {
      for await (const event of followJob(id, follow)) void event;
      return calls.getJob({ id }, follow);
    },

    /** An asset's bytes: of a path of the service, or of the address the storage gave. */
    openAsset: (asset: string, callOptions: CallOptions = {}): Promise<Response> =>
      request(asset, { method: 'GET', ...callOptions }),

    /** The prompt as it is written, then `done` with the whole answer. */
    async *enhanceStream(
      body: Omit<Schemas['EnhanceRequest'], 'stream'>,
      callOptions: CallOptions = {},
    ): AsyncGenerator<EnhanceEvent> {
      const message = { method: 'POST', body: JSON.stringify({ ...body, stream: true }), ...callOptions };
      const headers = { 'content-type': 'application/json' };
      for await (const { event, data } of stream('/enhance', { ...message, headers })) {
        yield { event, data: JSON.parse(data) as unknown } as EnhanceEvent;
        if (event === 'done' || event === 'error') return;
      }
      throw new ConnectionError(base, `The events of ${base} ended before the answer`, { cause: undefined });
    },

    /** Stores a picture for a while; `reference` of the answer goes into any reference field of this user's jobs. */
    async uploadReference(
      file: Blob,
      {
        userId,
        ...callOptions
      }: CallOptions & { /** Whose it is; a token says so itself. */ userId?: string } = {},
    ): Promise<Schemas['Reference']> {
      const form = new FormData();
      if (userId !== undefined) form.set('user_id', userId);
      form.set('file', file, 'reference');
      const response = await request('/references', { method: 'POST', body: form, ...callOptions });
      return (await response.json()) as Schemas['Reference'];
    },
  };
}

export function isOver(status: Job['status']): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** With failures that may pass, until they have gone on for too long. */
function createPatience(giveUpAfterMs: number) {
  let failingSinceMs: number | null = null;
  return {
    /** Something came: the next failure is the first one. */
    renew(): void {
      failingSinceMs = null;
    },
    /** @throws the error, where it is not to be borne (any longer) */
    bear(error: unknown): void {
      const mayPass =
        error instanceof ConnectionError || (error instanceof OurVidzError && error.isTemporary);
      failingSinceMs ??= Date.now();
      if (!mayPass || Date.now() - failingSinceMs > giveUpAfterMs) throw error;
    },
  };
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    if (signal?.aborted === true) stop();
    else signal?.addEventListener('abort', stop, { once: true });
  });
}
