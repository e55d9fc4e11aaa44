import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { QueueName } from '../catalogue.js';

/** On every way in; what is larger is never decoded. */
export const largestPayloadBytes = 1024 * 1024;

/** What one payload says, before anybody has validated it. */
export interface PayloadRead {
  /** Its UUID in lower case; empty where it has none: such a payload is no job's. */
  id: string;
  /** The UUID as the producer wrote it. */
  writtenId: string;
  /** As written, not checked against the catalogue; empty when there is none that could be one. */
  type: string;
  userId: string;
  /**
   * The same for two payloads exactly when they are the same job: queue, type, user and everything they ask
   * for.
   */
  identity: string;
  /** What of it is kept with the record, as JSON: what is asked for, bounded. Empty where it has no id. */
  request: string;
  /** The parsed JSON; undefined with a problem. */
  value: unknown;
  /** Why it cannot be read. */
  problem?: string;
  /** The store has lost it; whose it was is known from its entry and its job's record. */
  isGone?: true;
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuid.test(value);

/** It is shown in listings: no text of any length. */
const shownType = /^[\w.-]{1,64}$/;

/**
 * The one reader of payloads, whichever way they came: at most 1 MiB of UTF-8, a byte order mark is skipped,
 * a JSON string around the object is unwrapped once. Never throws.
 */
export function readPayload(payload: string | Buffer, queue: QueueName): PayloadRead {
  const nothing = { id: '', writtenId: '', type: '', userId: '', request: '', value: undefined };
  const refuse = (problem: string): PayloadRead => ({
    ...nothing,
    identity: digestOf(queue, payload),
    problem,
  });
  const bytes = Buffer.byteLength(payload);
  if (bytes > largestPayloadBytes) return refuse(tooLarge(bytes));
  if (typeof payload !== 'string' && !isUtf8(payload)) return refuse('the payload is not UTF-8');
  let value: unknown;
  try {
    value = parseJson(payload.toString());
  } catch {
    return refuse('the payload is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { ...nothing, identity: digestOf(queue, payload), value };
  const { id, type, user_id: userId } = value as Record<string, unknown>;
  const writtenId = isUuid(id) ? id : '';
  return {
    id: writtenId.toLowerCase(),
    writtenId,
    type: typeof type === 'string' && shownType.test(type) ? type : '',
    userId: typeof userId === 'string' ? userId : '',
    identity: digestOf(queue, canonical(value as Record<string, unknown>) ?? payload),
    request: writtenId === '' ? '' : requestIn(value as Record<string, unknown>),
    value,
  };
}

/** In place of a payload that is gone, what is known of its job. */
export const goneRead = (
  job: Pick<PayloadRead, 'id' | 'writtenId' | 'type' | 'userId' | 'identity'>,
): PayloadRead => ({
  ...job,
  request: '',
  value: undefined,
  problem: 'the payload is gone from the queue',
  isGone: true,
});

export const tooLarge = (bytes: number) =>
  `the payload has ${bytes} bytes; at most ${largestPayloadBytes} are read`;

/** Some editors and languages write a byte order mark before UTF-8. */
export const withoutMark = (text: string) => (text.startsWith('\uFEFF') ? text.slice(1) : text);

/** Some clients write what they are given as JSON, though it is JSON already. */
export const isWrapped = (value: unknown): value is string =>
  typeof value === 'string' && /^\uFEFF?\s*\{/.test(value);

/** Fields of a payload whose null says something else than their absence. */
const tellingNulls = new Set(['reference_strength']);

/** Missing, null and empty mean the same for every optional field. */
export const saysNothing = (name: string, value: unknown): boolean =>
  value === '' || (value === null && !tellingNulls.has(name));

/**
 * Of what is kept of a payload: a longer text (a picture as a `data:` URL) is left out, and of a larger one all but the
 * prompt.
 */
const longestKeptText = 2000;
const mostKeptBytes = 16 * 1024;
const keptFields = ['prompt', 'compel_enabled', 'compel_weights', 'config', 'metadata'] as const;

/** What a job asks for, so that it can be shown, found and asked for again. */
function requestIn(fields: Record<string, unknown>): string {
  const given = keptFields.filter((name) => name in fields && !saysNothing(name, fields[name]));
  const kept = Object.fromEntries(given.map((name) => [name, fields[name]]));
  let json: string;
  try {
    json = JSON.stringify(kept, (name, value: unknown) =>
      typeof value === 'string' && name !== 'prompt' && value.length > longestKeptText ? undefined : value,
    );
  } catch {
    json = '';
  }
  if (json !== '' && Buffer.byteLength(json) <= mostKeptBytes) return json;
  const { prompt } = fields;
  return JSON.stringify(typeof prompt === 'string' ? { prompt: prompt.slice(0, longestKeptText) } : {});
}

/** What a job asks for; nothing in records of older versions. */
export function askedFor({ request }: { request?: string }): Record<string, unknown> {
  return request === undefined ? {} : (JSON.parse(request) as Record<string, unknown>);
}

/** As its user wrote it; empty where nobody knows. */
export function promptOf(record: { request?: string }): string {
  const { prompt } = askedFor(record);
  return typeof prompt === 'string' ? prompt : '';
}

/** Throws what JSON.parse throws. */
function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(withoutMark(text));
  return isWrapped(value) ? JSON.parse(withoutMark(value)) : value;
}

/**
 * One text for payloads that differ in the order of keys, spaces, empty fields, the case of ids or the trace
 * they belong to only. Null for what is nested too deeply to be written again.
 */
function canonical(fields: Record<string, unknown>): string | null {
  const { traceparent: _trace, tracestate: _state, ...rest } = fields;
  for (const name of ['id', 'user_id']) {
    const id = rest[name];
    if (isUuid(id)) rest[name] = id.toLowerCase();
  }
  try {
    return JSON.stringify(rest, (_key, value: unknown) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.fromEntries(
            Object.entries(value)
              .filter(([name, inner]) => !saysNothing(name, inner))
              .sort(([a], [b]) => (a < b ? -1 : 1)),
          )
        : value,
    );
  } catch {
    return null;
  }
}

function digestOf(queue: QueueName, content: string | Buffer): string {
  return createHash('sha256').update(`${queue}\n`).update(content).digest('base64url');
}
