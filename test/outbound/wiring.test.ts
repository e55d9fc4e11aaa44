import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { build } from '../helpers/build.js';
import { until } from '../engines/support.js';

t.test('a service with a public address and Supabase announces itself, and says when it goes', async (t) => {
  const received: Array<{ authorization: string | undefined; body: unknown }> = [];
  const supabase = createServer((request, response) => {
    let text = '';
    request
      .on('data', (chunk) => {
        text += String(chunk);
      })
      .on('end', () => {
        // the public address of this test is the same server
        if (request.url === '/health')
          return response.setHeader('content-type', 'application/json').end('{"status":"healthy"}');
        if (request.url === '/functions/v1/update-worker-url')
          received.push({ authorization: request.headers.authorization, body: JSON.parse(text) });
        return response.end('{}');
      });
  }).listen(0, '127.0.0.1');
  t.teardown(() => {
    supabase.close();
    supabase.closeAllConnections();
  });
  await once(supabase, 'listening');
  const url = `http://127.0.0.1:${(supabase.address() as AddressInfo).port}`;
  const { app } = await build(t, {
    env: {
      SUPABASE_URL: url,
      SUPABASE_SERVICE_KEY: 'service-key',
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      STORAGE: 'folder',
      PUBLIC_URL: url,
    },
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  await until('the announcement', () => received.length === 1);
  t.match(received[0], {
    authorization: 'Bearer service-key',
    body: { status: 'active', timestamp: /^\d{4}-/ },
  });
  t.match((received[0]?.body as { worker_url: string }).worker_url, url);
  await app.close();
  t.match(received[1], { body: { status: 'inactive' } });
});
