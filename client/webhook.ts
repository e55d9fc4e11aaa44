import type { components } from '../src/contract/generated.js';

/** What the service posts to `CALLBACK_URL`. */
export type JobCallback = components['schemas']['JobCallback'];

export interface WebhookOptions {
  /** `CALLBACK_SECRET` of the worker; several while it is being replaced. */
  secret: string | readonly string[];
  headers: Headers | Readonly<Record<string, string | string[] | undefined>>;
  /** The body as text, exactly as it came: parsing and writing it again changes it. */
  body: string;
  /** How old (or early) a delivery may be. */
  toleranceSeconds?: number;
  now?: () => number;
}

/** Why a delivery is not taken for the worker's. */
export class WebhookError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'WebhookError';
  }
}

/**
 * Checks a callback's signature (https://www.standardwebhooks.com) and returns the callback. Drop what you have seen:
 * `webhook-id` is the same over all deliveries of one callback.
 * @throws WebhookError
 */
export async function verifyWebhook({
  secret,
  headers,
  body,
  toleranceSeconds = 300,
  now = Date.now,
}: WebhookOptions): Promise<JobCallback & { webhookId: string }> {
  const id = headerOf(headers, 'webhook-id');
  const timestamp = headerOf(headers, 'webhook-timestamp');
  if (!(Math.abs(now() / 1000 - Number(timestamp || NaN)) <= toleranceSeconds))
    throw new WebhookError('webhook-timestamp is missing, or too far from now');
  const signed = new TextEncoder().encode(`${id}.${timestamp}.${body}`);
  const signatures = headerOf(headers, 'webhook-signature')
    .split(' ')
    .filter((one) => one.startsWith('v1,'))
    .map((one) => bytesOf(one.slice(3)));
  for (const one of [secret].flat()) {
    const material = bytesOf(one.replace(/^whsec_/, ''));
    if (material === null) throw new WebhookError('the secret is not whsec_ and base64');
    const key = await crypto.subtle.importKey('raw', material, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'verify',
    ]);
    for (const signature of signatures) {
      // Compares in constant time.
      if (signature !== null && (await crypto.subtle.verify('HMAC', key, signature, signed)))
        return { ...(JSON.parse(body) as JobCallback), webhookId: id };
    }
  }
  throw new WebhookError('no webhook-signature fits the body');
}

function headerOf(headers: WebhookOptions['headers'], name: string): string {
  if (typeof headers.get === 'function') return (headers as Headers).get(name) ?? '';
  const found = (headers as Record<string, string | string[] | undefined>)[name];
  return [found].flat()[0] ?? '';
}

function bytesOf(base64: string): Uint8Array<ArrayBuffer> | null {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}
