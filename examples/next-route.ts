/**
 * app/api/ourvidz/token/route.ts of a Next.js site: gives the page of a logged-in user a token. The key stays here;
 * the page talks to the worker itself from then on.
 */
import { createClient } from 'ourvidz-worker/client';

declare const process: { env: Record<string, string | undefined> };

/** Your own: who is logged in? */
async function userOf(request: Request): Promise<string | null> {
  return request.headers.get('x-user-id');
}

export async function POST(request: Request): Promise<Response> {
  const userId = await userOf(request);
  if (userId === null) return Response.json({ error: 'log in first' }, { status: 401 });
  const ourvidz = createClient({
    url: process.env['OURVIDZ_URL'] ?? '',
    key: process.env['WAN_WORKER_API_KEY'],
  });
  const { token, expires_in } = await ourvidz.createToken({
    body: { user_id: userId, scopes: ['enhance', 'jobs'], expires_in: 900 },
  });
  return Response.json({ token, expires_in }, { headers: { 'cache-control': 'no-store' } });
}
