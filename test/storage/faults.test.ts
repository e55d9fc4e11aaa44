import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import pino from 'pino';
import t from 'tap';
import { defaultLimits } from '../../src/services/jobs/runner-context.js';
import { uploadFiles } from '../../src/services/jobs/job-files.js';
import { createSupabaseStorage } from '../../src/services/storage/supabase.js';
import { startSupabaseStorageDouble, type Fault } from '../helpers/supabase-storage-double.js';
import { localFile, signal } from './storage-suite.js';

t.setTimeout(180_000);
const kilobyte = 1024;
const job = { user_id: 'u1', id: 'j1', type: 'sdxl_image_fast' } as const;
const limits = {
  ...defaultLimits,
  leaseMs: 30_000,
  maxAttempts: 1,
  uploadPatienceMs: 60_000,
  uploadBackoff: { baseMs: 1, maxMs: 3, jitter: 0 },
};
const onFile = () => {};
const log = pino({ level: 'silent' });

/** Ways a storage fails that pass: an error, a connection broken before or in the middle of a body. */
const passing: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  {
    weight: 3,
    arbitrary: fc.constantFrom<Fault[]>(
      { status: 500 },
      { status: 503 },
      { status: 544, code: 'DatabaseTimeout' },
      { status: 429, code: 'SlowDown' },
      { status: 409, code: 'KeyAlreadyExists' },
      { status: 423, code: 'ResourceLocked' },
      'hang-up',
    ),
  },
  { weight: 1, arbitrary: fc.nat({ max: 5000 }).map((bytes) => ({ hangUpAfterBytes: bytes + 1 })) },
);

void t.test(
  'through any storm of passing faults every file arrives whole (HTTP double of the Storage API)',
  async (t) => {
    let storms = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(passing, { maxLength: 25 }), fc.boolean(), async (faults, resumable) => {
        const double = await startSupabaseStorageDouble();
        try {
          const storage = createSupabaseStorage({
            url: double.url,
            serviceKey: double.serviceKey,
            assetUrls: 'path',
            retryDelaysMs: [1, 1],
            timeoutMs: 5000,
            resumableAboveBytes: resumable ? 0 : 6 * 1024 * kilobyte,
          });
          const contents = Array.from({ length: 3 }, () => randomBytes(20 * kilobyte));
          const files = await Promise.all(
            contents.map(async (content) => {
              const { localPath, bytes } = await localFile(t, content);
              return {
                path: localPath,
                bytes,
                contentType: 'image/png',
                sha256: '',
                width: 1,
                height: 1,
                seed: 1,
              };
            }),
          );
          double.setFault(({ index }) => faults[index]);
          const { assets } = await uploadFiles(
            job,
            { files },
            { context: { storage, limits }, signal, log, onFile },
          );
          if (assets.length !== 3) throw new Error('not every file has an address');
          for (const [index, content] of contents.entries()) {
            const name = (assets[index] ?? '').replace('sdxl_image_fast/', '');
            if (double.object('sdxl_image_fast', name)?.body.equals(content) !== true)
              throw new Error(`${name} is not what was sent`);
          }
          storms += 1;
        } finally {
          await double.close();
        }
      }),
      { numRuns: 60 },
    );
    t.ok(storms >= 60, `${storms} storms`);
  },
);

void t.test(
  'a fault that does not pass ends the upload at once (HTTP double of the Storage API)',
  async (t) => {
    const double = await startSupabaseStorageDouble();
    t.teardown(() => double.close());
    const storage = createSupabaseStorage({
      url: double.url,
      serviceKey: double.serviceKey,
      assetUrls: 'path',
    });
    const { localPath, bytes } = await localFile(t, 'x');
    const files = [
      { path: localPath, bytes, contentType: 'image/png', sha256: '', width: 1, height: 1, seed: 1 },
    ];
    double.setFault(() => ({
      status: 415,
      code: 'InvalidMimeType',
      error: 'invalid_mime_type',
      message: 'mime type image/png is not supported',
    }));
    await t.rejects(uploadFiles(job, { files }, { context: { storage, limits }, signal, log, onFile }), {
      code: 'rejected',
      message: /mime type/,
    });
    t.equal(double.requests.length, 1);
  },
);
