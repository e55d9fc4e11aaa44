/**
 * supabase/functions/job-callback: takes the worker's callbacks, believes only what is signed, and stores each once.
 * Secrets: CALLBACK_SECRET as the worker has it. Copy dist/client of the worker beside it, and let deno.json name it.
 */
import { verifyWebhook, WebhookError } from 'ourvidz-worker/client';

declare const Deno: {
  env: { get(name: string): string | undefined };
  serve(handler: (request: Request) => Promise<Response>): unknown;
};

const need = (name: string): string => {
  const value = Deno.env.get(name);
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};

Deno.serve(async (request) => {
  const body = await request.text();
  try {
    const { webhookId, job_id, status, assets, error_message, metadata } = await verifyWebhook({
      secret: need('CALLBACK_SECRET'),
      headers: request.headers,
      body,
    });
    // `webhook_id` is the table's primary key: a callback that comes again changes nothing.
    const key = need('SUPABASE_SERVICE_ROLE_KEY');
    const stored = await fetch(`${need('SUPABASE_URL')}/rest/v1/job_callbacks?on_conflict=webhook_id`, {
      method: 'POST',
      headers: {
        apikey: key,
        authorization: `Bearer ${key}`,
        'content-type': 'application/json',
        prefer: 'resolution=ignore-duplicates',
      },
      body: JSON.stringify({ webhook_id: webhookId, job_id, status, assets, error_message, metadata }),
    });
    // Anything but 2xx: the worker sends it again.
    return new Response(null, { status: stored.ok ? 204 : 503 });
  } catch (error) {
    if (error instanceof WebhookError) return new Response(error.message, { status: 401 });
    throw error;
  }
});
