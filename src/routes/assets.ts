import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import type { RouteContext } from './context.js';

export function assetRoutes({ services }: RouteContext): Handlers {
  return {
    async getAsset(request, reply) {
      const { bucket, path } = request.params;
      const asset = await services.assets?.open(bucket, path);
      if (asset === undefined || asset === null) throw errors.notFound(`Asset ${bucket}/${path}`);
      const etag = `"${asset.bytes.toString(36)}-${Math.trunc(asset.modifiedAt.getTime()).toString(36)}"`;
      // A later attempt of the same job may write the same name again: ask each time, send it once.
      reply
        .header('etag', etag)
        .header('last-modified', asset.modifiedAt.toUTCString())
        .header('cache-control', 'private, no-cache');
      if (request.headers['if-none-match'] === etag) {
        asset.stream.destroy();
        return reply.code(304).send();
      }
      return reply
        .type(asset.contentType)
        .header('content-length', asset.bytes)
        .header('x-content-type-options', 'nosniff')
        .send(asset.stream);
    },
  };
}
