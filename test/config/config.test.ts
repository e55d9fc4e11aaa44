import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseEnv } from 'node:util';
import t from 'tap';
import { otherVariables } from '../../src/lib/environment.js';
import {
  callbackUrlOf,
  ConfigError,
  readConfig,
  redisUrlOf,
  secretsOf,
  variables,
} from '../../src/config.js';
import { sentinelAddress } from '../../src/lib/environment.js';
import { projectRoot } from '../../src/lib/project.js';

function problemsOf(environment: NodeJS.ProcessEnv): ConfigError['problems'] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

t.test('an empty environment is a complete one', async (t) => {
  const config = readConfig({});
  t.match(config, {
    host: '127.0.0.1',
    port: 7860,
    logLevel: 'info',
    rateLimit: true,
    trustProxy: false,
    ortDevice: 'auto',
    maxAttempts: 3,
    leaseSeconds: 30,
    shutdownGraceSeconds: 30,
  });
  t.ok(path.isAbsolute(config.dataDir));
  t.ok(Object.isFrozen(config));
  t.same(readConfig({ PORT: '', HOST: '  ' }), config, 'empty is the same as not set');
});

t.test('.env.example lists every variable with its default, and nothing else', async (t) => {
  const example = parseEnv(readFileSync(path.join(projectRoot(), '.env.example'), 'utf8'));
  t.same(Object.keys(example).sort(), [...variables, ...otherVariables].sort());
  t.same({ ...readConfig(example) }, { ...readConfig({}) }, 'used as it is, it changes nothing');
});

t.test('CORS_ORIGINS takes web origins, or * alone', async (t) => {
  const read = (text: string) => readConfig({ CORS_ORIGINS: text }).corsOrigins;
  t.same(read('https://App.example.com/, http://localhost:3000'), [
    'https://app.example.com',
    'http://localhost:3000',
  ]);
  t.same(read('*'), ['*']);
  for (const text of ['app.example.com', 'https://a.example/x', '*, https://a.example', 'https://*.example'])
    t.match(
      problemsOf({ CORS_ORIGINS: text }),
      [{ variable: 'CORS_ORIGINS', rule: /^web origins as/ }],
      text,
    );
});

t.test('all problems at once, each with variable, value and rule', async (t) => {
  const problems = problemsOf({
    PORT: '70000',
    LOG_LEVEL: 'loud',
    RATE_LIMIT: 'maybe',
    SUPABASE_URL: 'ftp://x',
    LEASE_SECONDS: '1.5',
    ORT_DEVICE: 'tpu',
  });
  t.same(
    problems.map(({ variable }) => variable),
    ['PORT', 'LOG_LEVEL', 'RATE_LIMIT', 'SUPABASE_URL', 'ORT_DEVICE', 'LEASE_SECONDS'],
  );
  t.match(problems[0], { value: '"70000"', rule: 'a whole number from 0 to 65535' });
  const { message } = new ConfigError(problems);
  for (const { variable, rule } of problems)
    t.ok(message.includes(variable) && message.includes(rule), `${variable} is in the message`);
});

t.test('numbers are read as people write them, and only as that', async (t) => {
  for (const value of ['0x1F', '1e3', ' ', 'NaN', 'Infinity', '7860.0', '-1', '7860px']) {
    const problems = problemsOf({ PORT: value });
    if (value.trim() === '') t.same(problems, [], 'blank is not set');
    else t.match(problems, [{ variable: 'PORT' }], value);
  }
  t.equal(readConfig({ PORT: ' 8000 ' }).port, 8000);
});

t.test('secrets never appear in a message', async (t) => {
  const secrets = {
    WAN_WORKER_API_KEY: 'hunter2',
    CALLBACK_SECRET: 'swordfish-swordfish',
    REDIS_URL: 'http://user:opensesame@host',
    CALLBACK_URL: 'ftp://user:open/sesame@host',
    METRICS_URL: 'http://user:sesam/open@host',
    SUPABASE_URL: 'https://user:sesamesame@host',
    PUBLIC_URL: 'https://sesametoken@host',
  };
  const { message } = new ConfigError(problemsOf(secrets));
  t.match(message, /WAN_WORKER_API_KEY/);
  t.match(message, /CALLBACK_SECRET/);
  t.match(message, /REDIS_URL/);
  for (const part of ['hunter2', 'swordfish', 'sesam']) t.notMatch(message, part);
});

t.test('a service connected to others needs a key; a local one does not', async (t) => {
  for (const environment of [
    { REDIS_URL: 'redis://localhost' },
    { UPSTASH_REDIS_REST_URL: 'https://x.upstash.io', UPSTASH_REDIS_REST_TOKEN: 't' },
    { SUPABASE_URL: 'https://x.supabase.co', SUPABASE_SERVICE_KEY: 's' },
  ] as Array<Record<string, string>>) {
    t.match(
      problemsOf(environment),
      [{ variable: 'WAN_WORKER_API_KEY', value: 'not set' }],
      Object.keys(environment).join(),
    );
    t.same(problemsOf({ ...environment, WAN_WORKER_API_KEY: 'a-key-of-its-own' }), []);
  }
});

t.test('variables that only make sense together', async (t) => {
  const key = { WAN_WORKER_API_KEY: 'a-key-of-its-own' };
  t.match(problemsOf({ ...key, SUPABASE_URL: 'https://x.supabase.co' }), [
    { variable: 'SUPABASE_SERVICE_KEY' },
  ]);
  const plain = { ...key, SUPABASE_URL: 'http://kong:8000', SUPABASE_SERVICE_KEY: 's' };
  t.match(problemsOf(plain), [{ variable: 'SUPABASE_URL', rule: /https.*SUPABASE_PLAIN_HTTP=on/ }]);
  t.ok(readConfig({ ...plain, SUPABASE_PLAIN_HTTP: 'on' }));
  for (const host of ['localhost', '127.0.0.1:54321', '[::1]:8000', 'supabase.localhost'])
    t.ok(readConfig({ ...plain, SUPABASE_URL: `http://${host}` }), `${host} never leaves the machine`);
  t.match(problemsOf({ ...key, STORAGE: 'supabase' }), [{ variable: 'SUPABASE_URL' }]);
  t.match(problemsOf({ ...key, UPSTASH_REDIS_REST_URL: 'https://x.upstash.io' }), [
    { variable: 'UPSTASH_REDIS_REST_TOKEN' },
  ]);
});

t.test('an address of Sentinels, and what is none', async (t) => {
  const full =
    'rediss+sentinel://worker:p%40ss@one:26380,[::1]:5,two/jobs/3?sentinel_username=w&sentinel_password=o%2Bther';
  t.same(sentinelAddress(full), {
    sentinels: [
      { host: 'one', port: 26380 },
      { host: '::1', port: 5 },
      { host: 'two', port: 26379 },
    ],
    name: 'jobs',
    isTls: true,
    username: 'worker',
    password: 'p@ss',
    sentinelUsername: 'w',
    sentinelPassword: 'o+ther',
    db: 3,
  });
  t.same(sentinelAddress('redis+sentinel://one/jobs'), {
    sentinels: [{ host: 'one', port: 26379 }],
    name: 'jobs',
    isTls: false,
  });
  const key = { WAN_WORKER_API_KEY: 'a-key-of-its-own' };
  const config = readConfig({ ...key, REDIS_URL: full });
  t.equal(config.redisUrl, full);
  for (const secret of ['p@ss', 'o+ther'].filter(({ length }) => length >= 6))
    t.ok(secretsOf(config).includes(secret), 'its passwords are secrets');
  for (const value of [
    'redis+sentinel://one',
    'redis+sentinel:///jobs',
    'redis+sentinel://one:x/jobs',
    'redis+sentinel://one:99999/jobs',
    'redis+sentinel://a%zz@one/jobs',
    'http+sentinel://one/jobs',
  ])
    t.match(problemsOf({ ...key, REDIS_URL: value }), [{ variable: 'REDIS_URL' }], value);
});

t.test("a private authority of Redis's certificate is a file with certificates, for TLS", async (t) => {
  const key = { WAN_WORKER_API_KEY: 'a-key-of-its-own' };
  const folder = t.testdir({ 'ca.pem': '-----BEGIN CERTIFICATE-----\nx', 'no.pem': 'x' });
  const tls = { ...key, REDIS_URL: 'rediss://host' };
  t.equal(redisUrlOf(readConfig({ ...key, REDIS_URL: 'REDISS://Host:1' })), 'rediss://Host:1');
  t.match(readConfig({ ...tls, REDIS_TLS_CA_FILE: `${folder}/ca.pem` }).redisTlsCa, /BEGIN/);
  for (const environment of [
    { ...tls, REDIS_TLS_CA_FILE: `${folder}/no.pem` },
    { ...tls, REDIS_TLS_CA_FILE: `${folder}/missing.pem` },
    { ...key, REDIS_URL: 'redis://host', REDIS_TLS_CA_FILE: `${folder}/ca.pem` },
  ])
    t.match(problemsOf(environment), [{ variable: 'REDIS_TLS_CA_FILE' }]);
});

t.test('addresses derived from others', async (t) => {
  const key = { WAN_WORKER_API_KEY: 'a-key-of-its-own' };
  const upstash = {
    ...key,
    UPSTASH_REDIS_REST_URL: 'https://eu1-fox.upstash.io',
    UPSTASH_REDIS_REST_TOKEN: 'A/b=',
  };
  t.equal(redisUrlOf(readConfig(upstash)), 'rediss://default:A%2Fb%3D@eu1-fox.upstash.io:6379');
  t.equal(
    redisUrlOf(readConfig({ ...upstash, REDIS_URL: 'redis://localhost:6379' })),
    'redis://localhost:6379',
    'REDIS_URL wins',
  );
  t.equal(redisUrlOf(readConfig({})), undefined);
  const supabase = { ...key, SUPABASE_URL: 'https://x.supabase.co/', SUPABASE_SERVICE_KEY: 's' };
  t.equal(callbackUrlOf(readConfig(supabase)), 'https://x.supabase.co/functions/v1/job-callback');
  t.equal(
    callbackUrlOf(readConfig({ ...supabase, CALLBACK_URL: 'https://hooks.test/a' })),
    'https://hooks.test/a',
  );
});

t.test('a percent sign in the password of an address is a problem like any other', async (t) => {
  const [problem] = problemsOf({
    REDIS_URL: 'redis://default:pa%ss@host',
    WAN_WORKER_API_KEY: 'long-enough-key',
  });
  t.match(problem, { variable: 'REDIS_URL', rule: /% written as %25/ });
  t.notMatch(problem?.value, /pa%ss/, 'and is not shown');
  t.same(
    problemsOf({ REDIS_URL: 'redis://default:pa%25ss@host', WAN_WORKER_API_KEY: 'long-enough-key' }),
    [],
  );
});

t.test('proxies: off, so many, or those of networks', async (t) => {
  const read = (TRUST_PROXY: string) => readConfig({ TRUST_PROXY }).trustProxy;
  t.equal(readConfig({}).trustProxy, false);
  for (const off of ['off', 'no', '0']) t.equal(read(off), false);
  t.equal(read('2'), 2);
  t.same(read('loopback, 10.0.0.0/8,fd00::/8,192.0.2.1'), [
    'loopback',
    '10.0.0.0/8',
    'fd00::/8',
    '192.0.2.1',
  ]);
  const anybody = ['0.0.0.0/0', '::/0', '0.0.0.0/1,128.0.0.0/1', '10.0.0.0/8,::/1'];
  for (const bad of [
    'on',
    'true',
    '-1',
    '100',
    'proxy.local',
    '10.0.0.0/33',
    '10.0.0.0/8/8',
    '*',
    ...anybody,
  ])
    t.match(problemsOf({ TRUST_PROXY: bad }), [{ variable: 'TRUST_PROXY', rule: /number of proxies/ }], bad);
});
