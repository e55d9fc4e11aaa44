/**
 * Prints fresh keys as lines for .env: `node deploy/make-keys.mjs > .env`. With `--storage http://THIS-MACHINE:8000` also those of
 * compose.yaml's profile `storage`: an address that the workers and whoever opens the files can reach.
 */
import { createHmac, randomBytes } from 'node:crypto';

const [, , flag, storageUrl] = process.argv;
if (flag !== undefined && (flag !== '--storage' || !URL.canParse(storageUrl))) {
  console.error('node deploy/make-keys.mjs [--storage http://THIS-MACHINE:8000]');
  process.exit(2);
}

const tenYearsSeconds = 315_360_000;
const random = () => randomBytes(32).toString('base64url');
const base64 = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function jsonWebToken(role, secret) {
  const now = Math.floor(Date.now() / 1000);
  const body = `${base64({ alg: 'HS256', typ: 'JWT' })}.${base64({ role, iss: 'ourvidz', iat: now, exp: now + tenYearsSeconds })}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

const secret = random();
const lines = {
  WAN_WORKER_API_KEY: random(),
  CALLBACK_SECRET: `whsec_${randomBytes(32).toString('base64')}`,
  GRAFANA_PASSWORD: random(),
  ...(storageUrl !== undefined
    ? {
        STORAGE_DATABASE_PASSWORD: random(),
        STORAGE_JWT_SECRET: secret,
        SUPABASE_SERVICE_KEY: jsonWebToken('service_role', secret),
        SUPABASE_URL: storageUrl,
        SUPABASE_PLAIN_HTTP: 'on',
      }
    : {}),
};
for (const [name, value] of Object.entries(lines)) console.log(`${name}=${value}`);
