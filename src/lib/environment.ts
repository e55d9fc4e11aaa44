import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import path from 'node:path';
import { parseEnv } from 'node:util';

/**
 * The settings of a working folder, read alike by the service and every command: the environment, and beneath
 * it the folder's `.env`. What is empty or blank is not set; set to nothing, a variable hides the one in
 * `.env`.
 */
export function readEnvironment(
  environment: NodeJS.ProcessEnv = process.env,
  workingFolder = process.cwd(),
): NodeJS.ProcessEnv {
  const together = { ...readEnvFile(path.join(workingFolder, '.env')), ...environment };
  const entries = Object.entries(together).map(([name, value]) => [name, value?.trim()] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== ''));
}

function readEnvFile(file: string): NodeJS.Dict<string> {
  try {
    return parseEnv(readFileSync(file, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
}

/** Why a value is refused, as the rest of "it must be …". */
export class Refused extends Error {}

/** Reads one variable; undefined when it is not set. @throws Refused */
export type Read<T> = (text: string | undefined) => T;

/** For values that are there. */
const reader =
  <T, F>(fallback: F, parse: (value: string) => T): Read<T | F> =>
  (value) =>
    value === undefined ? fallback : parse(value);

export const text = (fallback?: string): Read<string | undefined> => reader(fallback, (value) => value);

export const folder =
  (fallback: string): Read<string> =>
  (value) =>
    path.resolve(value ?? fallback);

export const integer = (fallback: number, minimum: number, maximum: number): Read<number> =>
  reader(fallback, (value) => {
    const number = Number(value);
    if (/^\d{1,15}$/.test(value) && number >= minimum && number <= maximum) return number;
    throw new Refused(`a whole number from ${minimum} to ${maximum}`);
  });

export const oneOf = <T extends string, F extends T | undefined>(fallback: F, ...allowed: T[]): Read<T | F> =>
  reader(fallback, (value) => {
    if (allowed.includes(value as T)) return value as T;
    throw new Refused(`one of ${allowed.join(', ')}`);
  });

export const flag = (fallback: boolean): Read<boolean> =>
  reader(fallback, (value) => {
    if (['1', 'true', 'on', 'yes'].includes(value.toLowerCase())) return true;
    if (['0', 'false', 'off', 'no'].includes(value.toLowerCase())) return false;
    throw new Refused('on or off');
  });

export const url = (...protocols: string[]): Read<string | undefined> =>
  reader(undefined, (value) => {
    if (!URL.canParse(value) || !protocols.includes(new URL(value).protocol))
      throw new Refused(
        `an address starting with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`,
      );
    try {
      const { username, password } = new URL(value);
      decodeURIComponent(username + password);
    } catch {
      throw new Refused('an address whose user and password have % written as %25');
    }
    return value.replace(/\/+$/, '');
  });

/** One that is passed on, or has a key of its own beside it. */
export const openUrl =
  (...protocols: string[]): Read<string | undefined> =>
  (value) => {
    const address = url(...protocols)(value);
    const { username = '', password = '' } = URL.parse(address ?? '') ?? {};
    if (username + password !== '') throw new Refused('an address without user and password');
    return address;
  };
/** Web origins, commas between: scheme, host and port, nothing behind them; or `*` alone. */
export const origins = (): Read<string[]> => (value) => {
  const given = list()(value).map((origin) => origin.replace(/\/$/, ''));
  const isOrigin = (text: string) =>
    !text.includes('*') && URL.canParse(text) && new URL(text).origin === text.toLowerCase();
  if (given.every(isOrigin) || (given.length === 1 && given[0] === '*'))
    return given.map((origin) => origin.toLowerCase());
  throw new Refused('web origins as https://app.example.com or http://localhost:3000, or * alone');
};

/** Where Sentinels say which of several servers is the master. */
export interface SentinelAddress {
  sentinels: Array<{ host: string; port: number }>;
  /** Of the master, as the Sentinels know it. */
  name: string;
  isTls: boolean;
  username?: string;
  password?: string;
  sentinelUsername?: string;
  sentinelPassword?: string;
  db?: number;
}

const sentinelForm =
  /^redis(s?)\+sentinel:\/\/(?:([^@/?#]*)@)?([^@/?#]+)\/([^/?#]+)(?:\/(\d{1,4}))?\/?(?:\?([^#]*))?$/;

/**
 * `redis+sentinel://user:password@host:port,host:port/name/db?sentinel_password=…` (`rediss+sentinel` with
 * TLS); null for anything else. @throws URIError for a % that stands for nothing
 */
export function sentinelAddress(address: string): SentinelAddress | null {
  const [, tls, credentials = '', hosts = '', name = '', db, query] = sentinelForm.exec(address) ?? [];
  const sentinels = hosts.split(',').map((host) => /^(\[[\da-f:.]+\]|[\w.-]+)(?::(\d{1,5}))?$/i.exec(host));
  if (name === '' || !sentinels.every((found) => found !== null && Number(found[2] ?? 1) < 65_536))
    return null;
  const [user = '', ...rest] = credentials.split(':');
  const asked = new URLSearchParams(query);
  const given = {
    username: decodeURIComponent(user),
    password: decodeURIComponent(rest.join(':')),
    sentinelUsername: asked.get('sentinel_username'),
    sentinelPassword: asked.get('sentinel_password'),
    db: db === undefined ? null : Number(db),
  };
  return {
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null && value !== '')),
    sentinels: sentinels.map((found) => ({
      host: (found?.[1] ?? '').replace(/^\[|\]$/g, ''),
      port: Number(found?.[2] ?? 26_379),
    })),
    name: decodeURIComponent(name),
    isTls: tls === 's',
  };
}

/** Of one Redis, or of the Sentinels that know the master. */
export const redisUrl = (): Read<string | undefined> => {
  const plain = url('redis:', 'rediss:');
  return reader(undefined, (given) => {
    // What opens the connection looks for rediss: as it is written here.
    const value = given.replace(/^[a-z+]+:/i, (scheme) => scheme.toLowerCase());
    if (!/^\w+\+sentinel:/.test(value)) return plain(value);
    try {
      if (sentinelAddress(value) !== null) return value;
    } catch {
      throw new Refused('an address whose user and password have % written as %25');
    }
    throw new Refused(
      'redis+sentinel:// or rediss+sentinel://, one or more host:port, and /name of the master',
    );
  });
};

/** The certificates of a file, in PEM. */
export const certificates = (): Read<string | undefined> =>
  reader(undefined, (file) => {
    try {
      const pem = readFileSync(file, 'utf8');
      if (pem.includes('-----BEGIN CERTIFICATE-----')) return pem;
    } catch {
      // Said below.
    }
    throw new Refused('a file that can be read, with certificates in PEM');
  });

/** What is secret within an address. */
export function passwordsIn(address: string): string[] {
  const sentinel = sentinelAddress(address);
  if (sentinel !== null)
    return [sentinel.password, sentinel.sentinelPassword].filter((password) => password !== undefined);
  const plain = URL.parse(address);
  // A token without a user stands in the user's place.
  return plain === null ? [] : [decodeURIComponent(plain.password || plain.username)];
}

export const list = (): Read<string[]> => (value) =>
  (value ?? '')
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

const networkNames = ['loopback', 'linklocal', 'uniquelocal'];

/**
 * Whose word about the client's address is taken: of so many proxies in front, counted from the service, or
 * of those in certain networks. False: nobody's.
 */
export const proxies = (): Read<false | number | string[]> => (value) => {
  if (value === undefined || ['off', 'false', 'no', '0'].includes(value.toLowerCase())) return false;
  if (/^\d$/.test(value)) return Number(value);
  const networks = list()(value);
  if (networks.every((network) => networkNames.includes(network) || isNetwork(network))) return networks;
  throw new Refused(
    'off, the number of proxies in front of the service (1 for one), or their networks with commas between ' +
      '(10.0.0.0/8, loopback; none larger than that or fc00::/7): ' +
      'whoever believes any address lets every client choose its own',
  );
};

function isNetwork(text: string): boolean {
  const [address = '', prefix, ...more] = text.split('/');
  const family = isIP(address);
  if (family === 0 || more.length > 0) return false;
  const [least, most] = family === 4 ? [8, 32] : [7, 128];
  return (
    prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) >= least && Number(prefix) <= most)
  );
}

/** What the command line and the engines' libraries read beside the settings of the service. */
export const otherVariables: readonly string[] = ['HF_HOME', 'HF_TOKEN', 'HF_ENDPOINT', 'OURVIDZ_URL'];
