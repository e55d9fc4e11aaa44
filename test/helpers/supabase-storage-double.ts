import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * An HTTP double of the published Supabase Storage API (object, bucket, sign and resumable routes), not the
 * real server. It is strict: a request the real one would refuse is refused, and what clients tend to get
 * wrong (credentials, content type, `x-upsert`, chunk size, offsets) is checked. Like the real one it answers
 * 400 to most errors, with the real status in the body.
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
  | { status: number; code?: string; error?: string; message?: string }
  | 'hang-up'
  | { hangUpAfterBytes: number }
  | 'silence'
  | undefined;

const chunkBytes = 6 * 1024 * 1024;
const standardLimitBytes = 50 * 1024 * 1024;

export async function startSupabaseStorageDouble({
  serviceKey = 'service-key',
  fileSizeLimit = standardLimitBytes,
}: { serviceKey?: string; fileSizeLimit?: number } = {}) {
  const buckets = new Map<string, { public: boolean; objects: Map<string, StoredObject> }>();
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
  const noBucket = () => new ApiError(404, 'Bucket not found', 'NoSuchBucket', 'Bucket not found');
  const noObject = () => new ApiError(404, 'not_found', 'NoSuchKey', 'Object not found');
  const invalid = (message: string) => new ApiError(400, 'InvalidRequest', 'InvalidRequest', message);
  const bucketOf = (name: string) => {
    const bucket = buckets.get(name);
    if (bucket === undefined) throw noBucket();
    return bucket;
  };

  function authorize(request: IncomingMessage): void {
    if (request.headers.apikey !== serviceKey)
      throw new ApiError(401, 'Unauthorized', 'AccessDenied', 'No API key found in request');
    if (request.headers.authorization !== `Bearer ${serviceKey}`)
      throw new ApiError(403, 'Unauthorized', 'AccessDenied', 'Invalid Compact JWS');
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
    authorize(request);
    const [bucketName = ''] = rest;
    const name = rest.slice(1).join('/');
    if (route === 'GET bucket')
      return json(
        [...buckets.keys()]
          .map((id) => ({ id, name: id }))
          .slice(0, Number(url.searchParams.get('limit') ?? 100)),
      );
    if (route === 'POST bucket') {
      const wanted = JSON.parse(body.toString()) as { id?: string; name?: string; public?: boolean };
      if (typeof wanted.name !== 'string' || !/^[\w.-]{1,100}$/.test(wanted.name))
        throw new ApiError(400, 'Invalid Input', 'InvalidBucketName', 'Bucket name invalid');
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

  /** TUS answers with the status itself and a plain text. */
  function handleTus(request: IncomingMessage, url: URL, body: Buffer, response: ServerResponse): void {
    if (request.method !== 'HEAD') authorize(request);
    if (request.headers['tus-resumable'] !== '1.0.0')
      throw new ApiError(412, 'TusError', 'TusError', 'Tus-Resumable Required');
    const base = { 'tus-resumable': '1.0.0' };
    if (request.method === 'POST') {
      const length = Number(request.headers['upload-length']);
      if (!Number.isInteger(length) || length < 0)
        throw new ApiError(
          400,
          'TusError',
          'TusError',
          'Upload-Length or Upload-Defer-Length header required',
        );
      const metadata = Object.fromEntries(
        String(request.headers['upload-metadata'] ?? '')
          .split(',')
          .map((pair) => pair.trim().split(' '))
          .map(([key = '', value = '']) => [key, Buffer.from(value, 'base64').toString('utf8')]),
      );
      const { bucketName = '', objectName = '', contentType = '', cacheControl = '' } = metadata;
      if (bucketName === '' || objectName === '')
        throw new ApiError(400, 'InvalidUploadId', 'InvalidUploadId', 'Invalid upload id');
      const { objects } = bucketOf(bucketName);
      if (objects.has(objectName) && !upsertOf(request))
        throw new ApiError(409, 'Duplicate', 'KeyAlreadyExists', 'The resource already exists');
      if (length > fileSizeLimit) throw new ApiError(413, 'TusError', 'TusError', 'Maximum size exceeded');
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
          location: `http://${request.headers.host}${url.pathname.replace(/\/$/, '')}/${id}`,
        })
        .end();
    }
    const upload = uploads.get(url.pathname.split('/').at(-1) ?? '');
    if (upload === undefined)
      throw new ApiError(404, 'TusError', 'TusError', 'The file for this url was not found');
    if (request.method === 'HEAD')
      return void response
        .writeHead(200, {
          ...base,
          'upload-offset': upload.offset,
          'upload-length': upload.length,
          'cache-control': 'no-store',
        })
        .end();
    if (request.method !== 'PATCH') throw new ApiError(404, 'TusError', 'TusError', 'Not found');
    if (request.headers['content-type'] !== 'application/offset+octet-stream')
      throw new ApiError(415, 'TusError', 'TusError', 'Content-Type header required');
    if (Number(request.headers['upload-offset']) !== upload.offset)
      throw new ApiError(409, 'TusError', 'TusError', 'Upload-Offset conflict');
    const isLast = upload.offset + body.length === upload.length;
    if (!isLast && body.length !== chunkBytes)
      throw new ApiError(
        400,
        'TusError',
        'TusError',
        `A chunk of ${body.length} bytes; they must have ${chunkBytes}`,
      );
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

  const server = createServer((request, response) => {
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
      const refuse = ({ status, error, code, message }: ApiError) => {
        if (isTus) return void response.writeHead(status, { 'tus-resumable': '1.0.0' }).end(message);
        const httpStatus = status === 401 || status === 429 || status >= 500 ? status : 400;
        response
          .writeHead(httpStatus, { 'content-type': 'application/json' })
          .end(JSON.stringify({ statusCode: String(status), error, code, message }));
      };
      if (planned === 'silence') return;
      if (planned === 'hang-up') return void request.socket.destroy();
      if (typeof planned === 'object' && 'status' in planned)
        return refuse(
          new ApiError(
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
