import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * An HTTP double of the Supabase Storage API (object, bucket, sign and resumable routes), not the real
 * server. It is strict: a request the real one would refuse is refused, and what clients tend to get wrong
 * (credentials, content type, `x-upsert`, chunk size, offsets) is checked.
 *
 * What supabase/storage (1.11 on Postgres 15, and its sources) was seen to do, and this does, too:
 * - nearly every error is HTTP 400 with the real status in a JSON body; 429, 500 and 544 are sent as they are;
 * - the upload server of resumable uploads answers with the status itself in plain text, but a key is judged
 *   before it is reached: 400 and `{"statusCode":"403"}` there as well, and for HEAD a 400 without a body;
 * - `anon` may list buckets (and sees none), but not write: 403 by row-level security;
 * - a bucket that is missing is 404, also for who may not write to it;
 * - `Location` of a resumable upload is an address as the server sees itself.
 */
export interface StoredObject {
  body: Buffer;
  contentType: string;
  cacheControl: string;
  upserts: number;
}
export interface SeenRequest {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  bytes: number;
}
/**
 * A status to answer with (body as the API words errors), a hang-up after the body was read, or after some
 * bytes of it; undefined: behave.
 */
export type Fault =
  | { status: number; code?: string; error?: string; message?: string; location?: string }
  | 'hang-up'
  | { hangUpAfterBytes: number }
  | 'silence'
  | undefined;

const chunkBytes = 6 * 1024 * 1024;
const standardLimitBytes = 50 * 1024 * 1024;

/** An unsigned JSON web token that says this of itself, as Supabase's older keys do. */
export function keyOf(claims: { role?: string; exp?: number }): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: 'supabase', ...claims })}.c2lnbmF0dXJl`;
}

/** How the server names an upload it has made: by `host`, the request's own, and the upload's path. */
export type LocationForm = (place: { host: string; path: string; id: string }) => string;
const asAsked: LocationForm = ({ host, path, id }) => `http://${host}${path}/${id}`;

interface DoubleOptions {
  serviceKey?: string;
  fileSizeLimit?: number;
  location?: LocationForm;
}
interface Bucket {
  public: boolean;
  objects: Map<string, StoredObject>;
  allowedMimeTypes?: string[];
}

export async function startSupabaseStorageDouble({
  serviceKey = 'service-key',
  fileSizeLimit = standardLimitBytes,
  location = asAsked,
}: DoubleOptions = {}) {
  const buckets = new Map<string, Bucket>();
  const expired = new Set<string>();
  const uploads = new Map<
    string,
    {
      bucket: string;
      name: string;
      contentType: string;
      cacheControl: string;
      length: number;
      chunks: Buffer[];
      offset: number;
    }
  >();
  const requests: SeenRequest[] = [];
  let fault: (request: { method: string; path: string; index: number }) => Fault = () => undefined;

  class ApiError extends Error {
    constructor(
      readonly status: number,
      readonly error: string,
      readonly code: string,
      message: string,
    ) {
      super(message);
    }
  }
  /** Of the upload server itself. */
  class TusError extends ApiError {
    constructor(status: number, message: string) {
      super(status, 'TusError', 'TusError', message);
    }
  }
  const noBucket = () => new ApiError(404, 'Bucket not found', 'NoSuchBucket', 'Bucket not found');
  const noObject = () => new ApiError(404, 'not_found', 'NoSuchKey', 'Object not found');
  const invalid = (message: string) => new ApiError(400, 'InvalidRequest', 'InvalidRequest', message);
  const bucketOf = (name: string) => {
    const bucket = buckets.get(name);
    if (bucket === undefined) throw noBucket();
    return bucket;
  };

  const denied = (message: string) => new ApiError(403, 'Unauthorized', 'AccessDenied', message);
  const rowSecurity = () => denied('new row violates row-level security policy');

  /** The role of who asks. Keys that are no JWT are known by `apikey` alone, and are nothing as a bearer. */
  function authorize(request: IncomingMessage): 'service_role' | 'anon' {
    const { apikey, authorization } = request.headers;
    if (typeof apikey !== 'string')
      throw new ApiError(401, 'Unauthorized', 'AccessDenied', 'No API key found in request');
    if (expired.has(apikey)) throw denied('"exp" claim timestamp check failed');
    if (apikey.startsWith('sb_')) {
      if (authorization !== undefined) throw denied('Invalid Compact JWS');
      if (apikey !== serviceKey) throw new ApiError(401, 'Unauthorized', 'AccessDenied', 'Invalid API key');
      return 'service_role';
    }
    if (authorization !== `Bearer ${apikey}`) throw denied('Invalid Compact JWS');
    const [, payload = ''] = apikey.split('.');
    if (payload === '') {
      if (apikey !== serviceKey) throw denied('Invalid Compact JWS');
      return 'service_role';
    }
    const { role, exp = Infinity } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as {
      role?: string;
      exp?: number;
    };
    if (exp * 1000 <= Date.now()) throw denied('"exp" claim timestamp check failed');
    return role === 'service_role' ? 'service_role' : 'anon';
  }

  function store(
    bucketName: string,
    name: string,
    object: Omit<StoredObject, 'upserts'>,
    upsert: boolean,
  ): void {
    const { objects } = bucketOf(bucketName);
    const present = objects.get(name);
    if (present !== undefined && !upsert)
      throw new ApiError(409, 'Duplicate', 'KeyAlreadyExists', 'The resource already exists');
    objects.set(name, { ...object, upserts: (present?.upserts ?? -1) + 1 });
  }

  const takes = ({ allowedMimeTypes }: Bucket, contentType: string) =>
    allowedMimeTypes?.includes(contentType) ?? true;

  const upsertOf = (request: IncomingMessage) => {
    const value = request.headers['x-upsert'];
    if (value !== 'true' && value !== 'false') throw invalid('x-upsert must be true or false');
    return value === 'true';
  };

  function handleApi(request: IncomingMessage, url: URL, body: Buffer, response: ServerResponse): void {
    const [, , , kind = '', ...rest] = url.pathname.split('/').map(decodeURIComponent);
    const route = `${request.method} ${kind}`;
    const json = (value: unknown) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    };
    if (route === 'GET object' && rest[0] === 'public') {
      const bucket = buckets.get(rest[1] ?? '');
      if (bucket?.public !== true) throw noBucket();
      return send(bucket.objects.get(rest.slice(2).join('/')), response);
    }
    if (route === 'GET object' && rest[0] === 'sign') {
      if (!url.searchParams.get('token')?.startsWith('signed-'))
        throw new ApiError(400, 'InvalidSignature', 'InvalidSignature', 'Invalid signature');
      return send(bucketOf(rest[1] ?? '').objects.get(rest.slice(2).join('/')), response);
    }
    const role = authorize(request);
    const [bucketName = ''] = rest;
    const name = rest.slice(1).join('/');
    if (route === 'GET bucket')
      return json(
        role === 'anon'
          ? []
          : [...buckets]
              .map(([id, bucket]) => ({ id, name: id, public: bucket.public }))
              .slice(0, Number(url.searchParams.get('limit') ?? 100)),
      );
    if (route === 'POST bucket') {
      const wanted = JSON.parse(body.toString()) as { id?: string; name?: string; public?: boolean };
      if (typeof wanted.name !== 'string' || !/^[\w.-]{1,100}$/.test(wanted.name))
        throw new ApiError(400, 'Invalid Input', 'InvalidBucketName', 'Bucket name invalid');
      if (role === 'anon') throw rowSecurity();
      if (buckets.has(wanted.name))
        throw new ApiError(409, 'Duplicate', 'BucketAlreadyExists', 'The resource already exists');
      buckets.set(wanted.name, { public: wanted.public === true, objects: new Map() });
      return json({ name: wanted.name });
    }
    if (route === 'POST object' && rest[0] === 'sign') {
      const { expiresIn } = JSON.parse(body.toString()) as { expiresIn?: number };
      if (!Number.isInteger(expiresIn)) throw invalid('expiresIn must be an integer');
      const path = rest.slice(1).join('/');
      if (!bucketOf(rest[1] ?? '').objects.has(rest.slice(2).join('/'))) throw noObject();
      return json({ signedURL: `/object/sign/${path}?token=signed-${expiresIn}` });
    }
    if (route === 'POST object' && rest[0] === 'list') {
      const { prefix = '' } = JSON.parse(body.toString()) as { prefix?: string };
      const below = [...bucketOf(rest[1] ?? '').objects.keys()]
        .filter((key) => key.startsWith(`${prefix}/`))
        .map((key) => key.slice(prefix.length + 1).split('/')[0] ?? '');
      return json(role === 'anon' ? [] : [...new Set(below)].map((entry) => ({ name: entry, id: null })));
    }
    if (route === 'POST object') {
      const contentType = request.headers['content-type'];
      if (contentType === undefined || contentType.startsWith('text/plain'))
        throw invalid('the client left the content type to its default');
      if (request.headers['content-length'] === undefined)
        throw new ApiError(
          400,
          'MissingContentLength',
          'MissingContentLength',
          'You must provide the Content-Length HTTP header.',
        );
      if (!/^[\w/!.\-*'() &$@=;:+,?]+$/.test(name))
        throw new ApiError(400, 'InvalidKey', 'InvalidKey', `Invalid key: ${name}`);
      if (body.length > fileSizeLimit)
        throw new ApiError(
          413,
          'Payload too large',
          'EntityTooLarge',
          'The object exceeded the maximum allowed size',
        );
      if (!takes(bucketOf(bucketName), contentType))
        throw new ApiError(
          415,
          'invalid_mime_type',
          'InvalidMimeType',
          `mime type ${contentType} is not supported`,
        );
      if (role === 'anon') throw rowSecurity();
      store(
        bucketName,
        name,
        { body, contentType, cacheControl: String(request.headers['cache-control']) },
        upsertOf(request),
      );
      return json({ Key: `${bucketName}/${name}`, Id: randomUUID() });
    }
    if (route === 'GET object') return send(bucketOf(bucketName).objects.get(name), response);
    if (route === 'DELETE object') {
      const { prefixes } = JSON.parse(body.toString()) as { prefixes?: string[] };
      if (!Array.isArray(prefixes) || prefixes.length === 0) throw invalid('prefixes must not be empty');
      const { objects } = bucketOf(bucketName);
      // Row-level security hides what may not be removed.
      if (role === 'anon') return json([]);
      return json(prefixes.filter((path) => objects.delete(path)).map((path) => ({ name: path })));
    }
    throw new ApiError(404, 'Not Found', 'NotFound', `Route ${request.method} ${url.pathname} not found`);
  }

  function send(object: StoredObject | undefined, response: ServerResponse): void {
    if (object === undefined) throw noObject();
    response
      .writeHead(200, {
        'content-type': object.contentType,
        'content-length': object.body.length,
        'cache-control': object.cacheControl,
      })
      .end(object.body);
  }

  /** TUS answers with the status itself and a plain text; who asks is judged before. */
  function handleTus(request: IncomingMessage, url: URL, body: Buffer, response: ServerResponse): void {
    const role = authorize(request);
    if (role === 'anon' && request.method !== 'HEAD') throw new TusError(403, rowSecurity().message);
    if (request.headers['tus-resumable'] !== '1.0.0') throw new TusError(412, 'Tus-Resumable Required');
    const base = { 'tus-resumable': '1.0.0' };
    if (request.method === 'POST') {
      const length = Number(request.headers['upload-length']);
      if (!Number.isInteger(length) || length < 0)
        throw new TusError(400, 'Upload-Length or Upload-Defer-Length header required');
      const metadata = Object.fromEntries(
        String(request.headers['upload-metadata'] ?? '')
          .split(',')
          .map((pair) => pair.trim().split(' '))
          .map(([key = '', value = '']) => [key, Buffer.from(value, 'base64').toString('utf8')]),
      );
      const { bucketName = '', objectName = '', contentType = '', cacheControl = '' } = metadata;
      if (bucketName === '' || objectName === '') throw new TusError(400, 'Invalid upload id');
      const bucket = buckets.get(bucketName);
      if (bucket === undefined) throw new TusError(404, 'The related resource does not exist');
      if (bucket.objects.has(objectName) && !upsertOf(request))
        throw new TusError(409, 'The resource already exists');
      if (length > fileSizeLimit) throw new TusError(413, 'Maximum size exceeded');
      if (!takes(bucket, contentType)) throw new TusError(415, `mime type ${contentType} is not supported`);
      const id = Buffer.from(`${bucketName}/${objectName}/${randomUUID()}`).toString('base64url');
      uploads.set(id, {
        bucket: bucketName,
        name: objectName,
        contentType,
        cacheControl: `max-age=${cacheControl}`,
        length,
        chunks: [],
        offset: 0,
      });
      return void response
        .writeHead(201, {
          ...base,
          location: location({ host: request.headers.host ?? '', path: url.pathname.replace(/\/$/, ''), id }),
        })
        .end();
    }
    const upload = uploads.get(url.pathname.split('/').at(-1) ?? '');
    if (upload === undefined) throw new TusError(404, 'The file for this url was not found');
    if (request.method === 'HEAD')
      return void response
        .writeHead(200, {
          ...base,
          'upload-offset': upload.offset,
          'upload-length': upload.length,
          'cache-control': 'no-store',
        })
        .end();
    if (request.method !== 'PATCH') throw new TusError(404, 'Not found');
    if (request.headers['content-type'] !== 'application/offset+octet-stream')
      throw new TusError(415, 'Content-Type header required');
    if (Number(request.headers['upload-offset']) !== upload.offset)
      throw new TusError(409, 'Upload-Offset conflict');
    const isLast = upload.offset + body.length === upload.length;
    if (!isLast && body.length !== chunkBytes)
      throw new TusError(400, `A chunk of ${body.length} bytes; they must have ${chunkBytes}`);
    upload.chunks.push(body);
    upload.offset += body.length;
    if (isLast)
      store(
        upload.bucket,
        upload.name,
        {
          body: Buffer.concat(upload.chunks),
          contentType: upload.contentType,
          cacheControl: upload.cacheControl,
        },
        upsertOf(request),
      );
    response.writeHead(204, { ...base, 'upload-offset': upload.offset }).end();
  }

  let clockOffsetMs = 0;
  const server = createServer((request, response) => {
    response.setHeader('date', new Date(Date.now() + clockOffsetMs).toUTCString());
    const url = new URL(request.url ?? '', 'http://double');
    const planned = fault({ method: request.method ?? '', path: url.pathname, index: requests.length });
    const seen: SeenRequest = {
      method: request.method ?? '',
      path: url.pathname,
      headers: request.headers,
      bytes: 0,
    };
    requests.push(seen);
    const chunks: Buffer[] = [];
    request.on('error', () => {});
    request.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      seen.bytes += chunk.length;
      if (
        typeof planned === 'object' &&
        'hangUpAfterBytes' in planned &&
        seen.bytes >= planned.hangUpAfterBytes
      )
        request.destroy();
    });
    request.on('end', () => {
      const isTus = url.pathname.startsWith('/storage/v1/upload/resumable');
      const refuse = (refusal: ApiError) => {
        const { status, error, code, message } = refusal;
        if (isTus && refusal instanceof TusError)
          return void response.writeHead(status, { 'tus-resumable': '1.0.0' }).end(message);
        const asItIs = [401, 429, 500, 502, 504, 544].includes(status) || status < 400;
        response
          .writeHead(asItIs ? status : 400, { 'content-type': 'application/json' })
          .end(JSON.stringify({ statusCode: String(status), error, code, message }));
      };
      if (planned === 'silence') return;
      if (planned === 'hang-up') return void request.socket.destroy();
      if (typeof planned === 'object' && 'status' in planned && planned.location !== undefined)
        return void response.writeHead(planned.status, { location: planned.location }).end();
      if (typeof planned === 'object' && 'status' in planned)
        return refuse(
          isTus && planned.code === undefined
            ? new TusError(planned.status, planned.message ?? 'Internal Server Error')
            : new ApiError(
                planned.status,
                planned.error ?? 'Internal',
                planned.code ?? 'InternalError',
                planned.message ?? 'Internal Server Error',
              ),
        );
      try {
        if (!url.pathname.startsWith('/storage/v1/'))
          throw new ApiError(404, 'Not Found', 'NotFound', `Route ${url.pathname} not found`);
        if (isTus) handleTus(request, url, Buffer.concat(chunks), response);
        else handleApi(request, url, Buffer.concat(chunks), response);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        refuse(error);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    serviceKey,
    buckets,
    requests,
    object: (bucket: string, name: string) => buckets.get(bucket)?.objects.get(name),
    /** Another time of day than this machine's. */
    setClockOffset(ms: number) {
      clockOffsetMs = ms;
    },
    /** The key is refused from now on, as its time were over; or taken again. */
    expireKey: (key: string) => void expired.add(key),
    renewKey: (key: string) => void expired.delete(key),
    /** Forgets unfinished uploads, as the real one does after a day. */
    forgetUploads: () => uploads.clear(),
    setFault: (next: typeof fault) => {
      fault = next;
    },
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
export type SupabaseStorageDouble = Awaited<ReturnType<typeof startSupabaseStorageDouble>>;
