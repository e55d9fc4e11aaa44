import { Readable } from 'node:stream';
import { Busboy, type BusboyConfig, type BusboyHeaders } from '@fastify/busboy';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Handlers } from '../contract/routes.js';
import { iso } from '../lib/units.js';
import { errors } from '../lib/errors.js';
import { isUuid, saysNothing } from '../services/queue/read-payload.js';
import { ownerOf, type StoredReference } from '../services/references/uploads.js';
import type { RouteContext } from './context.js';

const multipart = /^multipart\/form-data\s*(;|$)/i;

/** In the scope of these routes a body is a stream, whatever it is: it is judged by the handler. */
export function takeStreams(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
}

export function referenceRoutes({ services: { references }, disconnect }: RouteContext): Handlers {
  return {
    async createReference(request, reply) {
      if (!multipart.test(request.headers['content-type'] ?? ''))
        throw errors.unsupportedMediaType('multipart/form-data');
      const stored = await readForm(
        request.raw,
        request.headers as BusboyHeaders,
        references.maxBytes,
        (file, written) => {
          const userId = request.caller?.userId ?? written;
          if (userId === undefined)
            throw refused('user_id', 'required', 'user_id is missing; it stands before file');
          if (!isUuid(userId)) throw refused('user_id', 'format', 'user_id must be a uuid');
          if (written !== undefined && written.toLowerCase() !== userId.toLowerCase())
            throw errors.foreign('A token is for the references of its own user_id');
          return references.store(file, userId, disconnect.of(reply));
        },
      );
      const { reference, width, height, bytes, expiresAtMs } = stored;
      reply.code(201);
      return { reference, width, height, bytes, expires_at: iso(expiresAtMs) };
    },
  };
}

type AssetRequest = Pick<FastifyRequest, 'caller'> & {
  params: { bucket: string; path: string };
  query: { size?: number };
};

/**
 * Files of the folder storage: whole, in ranges, or not again when the client has them; small pictures of any
 * storage.
 */
export function assetRoutes({ services: { assets, thumbnails } }: RouteContext): Handlers {
  async function send(
    { params: { bucket, path }, query: { size }, caller }: AssetRequest,
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const isTheirs = caller?.userId === undefined || ownerOf(path) === caller.userId;
    const found = !isTheirs
      ? null
      : size === undefined
        ? await assets?.find(bucket, path)
        : await thumbnails.find(bucket, path, size);
    if (found === undefined || found === null) throw errors.notFound(`Asset ${bucket}/${path}`);
    const root = size === undefined ? assets?.root : thumbnails.root;
    return (
      reply
        .type(found.contentType)
        .header('x-content-type-options', 'nosniff')
        // A later attempt of the same job may write the same name again: ask each time, send it once.
        .header('cache-control', 'private, no-cache')
        .sendFile(found.file, root ?? '', { cacheControl: false, contentType: false, dotfiles: 'allow' })
    );
  }

  return { getAsset: send, headAsset: send };
}

function refused(field: string, rule: string, message: string) {
  return errors.invalidParameters.with({ details: [{ field, rule, message }] }, message);
}

/** Reads `user_id` and `file` of a form; the file is handed on as it comes, never held. */
async function readForm(
  body: Readable,
  headers: BusboyHeaders,
  maxBytes: number,
  onFile: (file: Readable, userId: string | undefined) => Promise<StoredReference>,
): Promise<StoredReference> {
  const limits: BusboyConfig['limits'] = {
    files: 1,
    fields: 4,
    fieldSize: 200,
    fileSize: maxBytes,
    parts: 6,
  };
  let form: InstanceType<typeof Busboy>;
  try {
    form = new Busboy({ headers, limits });
  } catch (error) {
    throw errors.badRequest(`The form cannot be read: ${(error as Error).message}`);
  }
  let userId: string | undefined;
  let storing: Promise<StoredReference> | undefined;
  form.on('field', (name, value) => {
    if (name === 'user_id' && !saysNothing(name, value)) userId = value;
  });
  form.on('file', (name, file) => {
    if (name !== 'file') return void file.resume();
    async function* whole() {
      yield* file as AsyncIterable<Buffer>;
      if (file.truncated) throw errors.bodyTooLarge(maxBytes);
    }
    storing = (async () => onFile(Readable.from(whole()), userId))();
    // Whatever became of it, the rest of the form is read: a client that is still sending sees no answer.
    storing.catch(() => file.resume());
  });
  const read = new Promise<void>((resolve, reject) => {
    form.once('finish', resolve).once('error', reject);
    body.once('close', () => {
      if (!body.readableEnded) reject(new Error('it ends too early'));
    });
    body.pipe(form);
  }).catch((error: unknown) => {
    body.unpipe(form);
    body.resume();
    throw errors.badRequest(`The form cannot be read: ${(error as Error).message}`);
  });
  await read;
  if (storing === undefined) throw refused('file', 'required', 'file is missing');
  return storing;
}
