import { createHmac } from 'node:crypto';
import t from 'tap';
import { verifyWebhook, WebhookError } from '../../client/index.js';

const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
const other = `whsec_${Buffer.alloc(32, 8).toString('base64')}`;
const body = JSON.stringify({ job_id: 'j', status: 'completed', assets: ['ä'], metadata: {} });
const at = 1_700_000_000;
const now = () => at * 1000;

/** As docs/callbacks.md says, with Node's own means. */
function headersOf({ id = 'j:completed', timestamp = String(at), text = body, key = secret } = {}) {
  const material = Buffer.from(key.slice(6), 'base64');
  const signature = createHmac('sha256', material).update(`${id}.${timestamp}.${text}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}

t.test('a callback of the worker is taken', async (t) => {
  const headers = headersOf();
  for (const given of [
    headers,
    new Headers(headers),
    { ...headers, 'webhook-signature': [headers['webhook-signature']] },
  ])
    t.match(await verifyWebhook({ secret, headers: given, body, now }), {
      webhookId: 'j:completed',
      job_id: 'j',
      status: 'completed',
      assets: ['ä'],
    });
  const both = { ...headers, 'webhook-signature': `v1a,x v1,%% ${headers['webhook-signature']}` };
  t.ok(await verifyWebhook({ secret, headers: both, body, now }), 'one of several signatures');
  t.ok(await verifyWebhook({ secret: [other, secret], headers, body, now }), 'while the secret is replaced');
});

t.test('anything else is not', async (t) => {
  const headers = headersOf();
  const cases: Record<string, Partial<Parameters<typeof verifyWebhook>[0]>> = {
    'another body': { body: body.replace('completed', 'failed') },
    'another secret': { secret: other },
    'another id': { headers: { ...headers, 'webhook-id': 'k:completed' } },
    'another time': { headers: { ...headers, 'webhook-timestamp': String(at + 1) } },
    'an old one, sent again': { now: () => (at + 301) * 1000 },
    'one from the future': { now: () => (at - 301) * 1000 },
    'no headers': { headers: {} },
    'a time that is none': { headers: headersOf({ timestamp: 'NaN' }) },
    'an empty time': { headers: headersOf({ timestamp: '' }) },
    'no signature': { headers: { ...headers, 'webhook-signature': '' } },
    'a secret that is none': { secret: 'whsec_%' },
  };
  for (const [what, wrong] of Object.entries(cases))
    await t.rejects(verifyWebhook({ secret, headers, body, now, ...wrong }), WebhookError, what);
});
