import { isIPv6 } from 'node:net';
import bearerAuth from '@fastify/bearer-auth';
import rateLimit from '@fastify/rate-limit';
import type { FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { errors } from '../lib/errors.js';
import type { Caller, Sessions } from './api-keys.js';
import { csrfTokenOf, isLoginCode, isToken } from './tokens.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks, once the key was accepted; absent on open routes. */
    caller?: Caller | null;
    /** The cookie it was, where a browser asks that is signed in. */
    session?: string | null;
    /** Whether whoever asked is still let in: a stream may last longer than its token, its session or its key. */
    identify?: (() => Promise<Caller | null>) | null;
  }
}

export interface AuthOptions {
  /** The one place that decides who somebody is; null: nobody known. */
  authenticate: (credential: string) => Promise<Caller | null>;
  sessions: Sessions;
  /** Wrong keys one address may send per minute before it is told to wait; null for no limit. */
  failuresPerMinute: number | null;
}

/**
 * Puts the whole scope it is registered in behind an API key, before any body is read, and each operation
 * behind the scope it names. A right key always passes, also from an address that has sent many wrong ones:
 * behind a proxy that address is everybody's.
 */
export const authPlugin = fp<AuthOptions>(
  async (scope, { authenticate, sessions, failuresPerMinute }) => {
    scope.decorateRequest('caller', null);
    scope.decorateRequest('session', null);
    scope.decorateRequest('identify', null);
    const expired = new WeakMap<FastifyRequest, unknown>();
    await scope.register(rateLimit, { global: false, keyGenerator: ({ ip }) => clientOf(ip) });
    await scope.register(bearerAuth, {
      keys: new Set<string>(),
      auth: async (credential, request) => {
        request.identify = () => authenticate(credential);
        // A token whose time is over guesses no key: that is said, and not counted.
        const asks = isLoginCode(credential)
          ? Promise.resolve(opensSession(request) ? sessions.takeCode(credential) : null)
          : request.identify();
        request.caller = await asks.catch((error: unknown) => {
          expired.set(request, error);
          return null;
        });
        return request.caller !== null;
      },
      addHook: false,
      verifyErrorLogLevel: 'debug',
      specCompliance: 'rfc6749',
    });
    const verify = scope.verifyBearerAuth;
    if (verify === undefined) throw new Error('@fastify/bearer-auth did not decorate its scope');
    const countFailure =
      failuresPerMinute === null
        ? null
        : scope.createRateLimit({ max: failuresPerMinute, timeWindow: 60_000 });

    scope.addHook('onRequest', async (request, reply) => {
      const token = tokenInQuery(request);
      const session = token === undefined ? sessionIn(request) : undefined;
      if (session !== undefined) {
        request.identify = () => sessions.find(session);
        request.caller = await request.identify();
        // No other page shows what this browser may see.
        reply.header('cross-origin-resource-policy', 'same-origin');
        if (request.caller === null) throw errors.unauthorized('You were signed out: sign in again');
        requireOwnPage(request, session);
        request.session = session;
      } else if (token === undefined) await new Promise((resolve) => verify(request, reply, resolve));
      else {
        request.identify = () => authenticate(token);
        request.caller = await request.identify();
      }
      if (request.caller !== null) return requireScope(request);
      if (expired.has(request)) throw expired.get(request);
      const count = await countFailure?.(request);
      if (count !== undefined && !count.isAllowed && count.isExceeded) {
        throw errors.tooManyRequests.with(
          { retryAfterSeconds: count.ttlInSeconds },
          'Too many requests without the right API key; wait before the next one',
        );
      }
      throw errors.unauthorized();
    });
  },
  { name: 'auth', fastify: '5.x' },
);

function requireScope({ caller, routeOptions }: FastifyRequest): void {
  const { scope } = routeOptions.config;
  if (typeof scope === 'string' && caller?.scopes.has(scope) !== true) throw errors.forbidden(scope);
}

const opensSession = ({ routeOptions }: FastifyRequest) =>
  routeOptions.config.operationId === 'createSession';

/** Browsers send cookies to every port of a host: two services on one machine keep theirs apart. */
export function sessionCookie({ host }: Pick<FastifyRequest, 'host'>): string {
  const [, port = ''] = /:(\d+)$/.exec(host) ?? [];
  return `ourvidz_session${port}`;
}

/**
 * The cookie of a browser that is signed in, if the request is one of our own pages. `SameSite` alone lets the pages of
 * other ports of this host in, which `CORS_ORIGINS` might even let read the answer.
 */
function sessionIn(request: FastifyRequest): string | undefined {
  const { headers, cookies, host } = request;
  const { authorization, origin, 'sec-fetch-site': site } = headers;
  if (authorization !== undefined) return undefined;
  const isOwn =
    site === undefined
      ? origin === undefined || origin.replace(/^https?:\/\//, '') === host
      : site === 'same-origin' || site === 'none';
  return isOwn ? cookies[sessionCookie(request)] : undefined;
}

/** What changes something needs more than a cookie, which browsers send on their own. */
function requireOwnPage({ method, headers }: FastifyRequest, session: string): void {
  if (['GET', 'HEAD', 'OPTIONS'].includes(method)) return;
  if (headers['x-csrf-token'] !== csrfTokenOf(session))
    throw errors.foreign('With a cookie this also needs the header x-csrf-token, as GET /session says it');
}

/** Only a token: a key in an address would end up in logs and histories. */
function tokenInQuery({ headers, query, routeOptions }: FastifyRequest): string | undefined {
  if (headers.authorization !== undefined || routeOptions.config.tokenInQuery !== true) return undefined;
  const { token } = query as { token?: unknown };
  return typeof token === 'string' && isToken(token) ? token : undefined;
}

/**
 * Whom an address stands for: without the port that some proxies add, which is another with each connection,
 * and of IPv6 the network, which is one client's whole.
 */
function clientOf(ip: string): string {
  const [, bracketed, plain] = /^(?:\[(.+)\]|(?:::ffff:)?(\d+(?:\.\d+){3}))(?::\d+)?$/i.exec(ip) ?? [];
  if (plain !== undefined) return plain;
  const address = (bracketed ?? ip).split('%')[0] ?? '';
  if (!isIPv6(address)) return ip;
  const [left = [], right] = address
    .split('::')
    .map((half) => half.split(':').filter((group) => group !== ''));
  const zeros = right === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...(right ?? [])];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
