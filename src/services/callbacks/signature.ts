import { createHmac } from 'node:crypto';

export interface SigningOptions {
  /** `whsec_` and base64 (Standard Webhooks); absent: not signed. */
  secret: string | undefined;
  /** Sent as `Authorization: Bearer`, or as `apikey` when it is one of Supabase's new keys, which are no JWTs. */
  serviceKey: string | undefined;
}

/** Headers of one delivery: the id is stable over retries, the time is this attempt's. */
export function callbackHeaders({ id: entryId, body, atMs }: { id: string; body: string; atMs: number }, { secret, serviceKey }: SigningOptions): Record<string, string> {
  const id = headerId(entryId);
  const timestamp = String(Math.floor(atMs / 1000));
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'idempotency-key': id,
    ...(serviceKey === undefined ? {} : serviceKey.startsWith('sb_secret_') ? { apikey: serviceKey } : { authorization: `Bearer ${serviceKey}` }),
    ...(secret === undefined ? {} : { 'webhook-signature': `v1,${sign(secret, `${id}.${timestamp}.${body}`)}` }),
  };
}

/** Ids may hold what a producer wrote: made fit for a header, and free of the dots that separate the signed parts. */
function headerId(id: string): string {
  return encodeURIComponent(Buffer.from(id, 'utf8').toString('utf8')).replaceAll('%3A', ':').replaceAll('.', '%2E');
}

function sign(secret: string, content: string): string {
  return createHmac('sha256', Buffer.from(secret.replace(/^whsec_/, ''), 'base64')).update(content).digest('base64');
}
