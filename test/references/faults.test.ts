import { readdir } from 'node:fs/promises';
import fc from 'fast-check';
import t from 'tap';
import sharp from 'sharp';
import { AppError } from '../../src/lib/errors.js';
import { createReferenceFetcher } from '../../src/services/references/fetcher.js';
import { noStorage, signal, startServer, temporaryFolder } from './support.js';

t.setTimeout(180_000);
const field = 'config.image';

/**
 * What a network and a hostile server do to a file: cut it, flip bits, repeat or swap parts, stop in the
 * middle.
 */
const damage = fc.record({
  type: fc.constantFrom('jpeg', 'png', 'webp', 'gif', 'avif'),
  flips: fc.array(
    fc.tuple(fc.double({ min: 0.03, max: 1, noNaN: true, maxExcluded: true }), fc.nat({ max: 255 })),
    { maxLength: 6 },
  ),
  keep: fc.oneof(
    { weight: 2, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.double({ min: 0.1, max: 1, noNaN: true }) },
  ),
  status: fc.oneof(
    { weight: 8, arbitrary: fc.constant(200) },
    { weight: 1, arbitrary: fc.constantFrom(206, 302, 404, 500, 503) },
  ),
  ends: fc.oneof(
    { weight: 5, arbitrary: fc.constant('properly') },
    { weight: 1, arbitrary: fc.constantFrom('reset', 'silence') },
  ),
});

void t.test(
  'whatever arrives, a job gets a plain picture or a reason, and nothing else is left',
  async (t) => {
    const noise = await sharp({
      create: {
        width: 80,
        height: 60,
        channels: 3,
        noise: { type: 'gaussian', mean: 128, sigma: 40 },
        background: '#000',
      },
    })
      .png()
      .toBuffer();
    const originals = new Map<string, Buffer>();
    for (const type of ['jpeg', 'png', 'webp', 'gif', 'avif'] as const)
      originals.set(type, await sharp(noise).toFormat(type).toBuffer());
    let next: { bytes: Buffer; status: number; ends: string; length: number } = {
      bytes: Buffer.alloc(0),
      status: 200,
      ends: 'properly',
      length: 0,
    };
    const server = await startServer(t, (_request, response) => {
      const { bytes, status, ends, length } = next;
      response.writeHead(status, {
        'content-length': ends === 'properly' ? bytes.length : length + 1,
        location: '/again',
      });
      if (ends === 'properly') response.end(bytes);
      else
        response.write(bytes, () => {
          if (ends === 'reset') response.destroy();
        });
    });
    const fetcher = createReferenceFetcher({
      storage: noStorage,
      policy: { allowedHosts: [server.host] },
      timeoutMs: 400,
    });
    const outcomes = new Map<string, number>();
    await fc.assert(
      fc.asyncProperty(damage, async ({ type, flips, keep, status, ends }) => {
        const original = originals.get(type) ?? Buffer.alloc(0);
        const bytes = Buffer.from(original.subarray(0, Math.ceil(original.length * keep)));
        for (const [where, value] of flips)
          if (bytes.length > 0) bytes[Math.floor(where * bytes.length)] = value;
        next = { bytes, status, ends, length: original.length };
        const folder = await temporaryFolder(t);
        let outcome: string;
        try {
          const reference = await fetcher.fetch(
            { url: `${server.origin}/a`, field, role: 'reference' },
            folder,
            signal,
          );
          const metadata = await sharp(reference.path).metadata();
          if (
            metadata.format !== 'png' ||
            metadata.channels !== 3 ||
            metadata.width !== reference.width ||
            metadata.height !== reference.height
          )
            throw new Error(`not a plain picture: ${JSON.stringify(metadata)}`);
          if (
            Buffer.from(await sharp(reference.path).raw().toBuffer()).length !==
            reference.width * reference.height * 3
          )
            throw new Error('not a whole picture');
          outcome = 'picture';
        } catch (error) {
          if (!(error instanceof AppError)) throw error;
          if (
            !['INVALID_PARAMETERS', 'UNAVAILABLE'].includes(error.code) ||
            !error.message.includes(field) ||
            error.message.includes(folder)
          )
            throw new Error(`not a reason: ${error.message}`, { cause: error });
          outcome = error.details[0]?.rule ?? 'later';
        }
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        const left = (await readdir(folder)).filter((name) => !name.endsWith('.part'));
        if (left.join() !== (outcome === 'picture' ? 'reference-reference.png' : ''))
          throw new Error(`left: ${left.join()}`);
      }),
      { numRuns: 60 },
    );
    t.comment([...outcomes].map(([outcome, count]) => `${outcome}: ${count}`).join(', '));
    t.ok(outcomes.size >= 3, 'pictures, refusals and failures all occurred');
  },
);
