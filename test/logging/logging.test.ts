import { Writable } from 'node:stream';
import t from 'tap';
import { readConfig, secretsOf } from '../../src/config.js';
import { createLog } from '../../src/telemetry.js';

const environment = {
  REDIS_URL: 'redis://default:pass%2Fword-of-redis@redis.test:6379',
  WAN_WORKER_API_KEY: 'the-api-key',
  SUPABASE_URL: 'https://project.supabase.co',
  SUPABASE_SERVICE_KEY: 'service"key\\with quotes',
};

function collect(extra: Record<string, string> = {}) {
  const lines: string[] = [];
  const log = createLog(
    readConfig({ ...environment, ...extra }),
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(chunk.toString());
        done();
      },
    }),
  );
  return { log, lines };
}

t.test('no secret leaves in any line: fields, messages, errors, children', async (t) => {
  const { log, lines } = collect();
  const secrets = secretsOf(readConfig(environment));
  t.ok(secrets.includes('pass/word-of-redis') && secrets.length === 4, 'passwords of addresses count');
  for (const secret of secrets) {
    log.info({ anything: { deep: [secret] } }, `message with ${secret}`);
    log
      .child({ worker: 'sdxl' })
      .error({ err: new Error(`connect ${secret} failed`), url: `redis://x:${secret}@host` }, 'failed');
  }
  log.warn(
    { headers: { authorization: 'Bearer somebody else' }, req: { headers: { authorization: 'x' } } },
    'request',
  );
  const text = lines.join('');
  for (const secret of secrets) t.notOk(text.includes(JSON.stringify(secret).slice(1, -1)), secret);
  t.notMatch(text, /somebody else/);
  for (const line of lines) t.doesNotThrow(() => JSON.parse(line) as unknown);
});

t.test('prompts are shown only where the operator asked for them', async (t) => {
  const reply = Object.assign(new Error('OOM command not allowed'), {
    command: { name: 'lpush', args: ['queue', 'a red circle'] },
  });
  const write = ({ log, lines }: ReturnType<typeof collect>) => {
    log.info(
      { prompt: 'a red circle', job: { original_prompt: 'a red circle', negative_prompt: 'a red circle' } },
      'job begun',
    );
    log.warn({ err: reply }, 'failed');
    return lines.join('');
  };
  t.notMatch(write(collect()), /red circle/);
  t.match(write(collect({ LOG_PROMPTS: 'on' })), /red circle/);
});

t.test(
  'a terminal that shows the log obeys nothing in it, and a reader of the log loses nothing',
  async (t) => {
    const { log, lines } = collect();
    const evil = 'a\u001b[2J\u009b31m\u007f\u202e\u2066b';
    log.warn({ field: evil }, evil);
    t.notMatch(lines.join(''), /(?!\n)[\p{Cc}\p{Bidi_Control}]/u);
    t.match(JSON.parse(lines[0] ?? ''), { field: evil, msg: evil });
  },
);

t.test('the password of any address is a secret, and no address is shown with it', async (t) => {
  const config = readConfig({
    CALLBACK_URL: 'https://name:pa%24sword@a.test',
    METRICS_URL: 'https://token-of-it@b.test',
  });
  t.same(secretsOf(config), ['pa$sword', 'token-of-it']);
  const { log, lines } = collect();
  log.info({ url: 'https://a:b@c.test/d@e?f=g@h' }, 'refused https://x@y.test/ by mail@z.test');
  t.match(JSON.parse(lines[0] ?? ''), {
    url: 'https://***@c.test/d@e?f=g@h',
    msg: 'refused https://***@y.test/ by mail@z.test',
  });
});

t.test('the key that a local service made for itself is a secret like any other', async (t) => {
  t.ok(secretsOf({ ...readConfig({}), apiKey: 'generated-key' }).includes('generated-key'));
});
