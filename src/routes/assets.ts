import type { FastifyReply } from 'fastify';
import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import type { RouteContext } from './context.js';

/** Files of the folder storage: whole, in ranges, or not again when the client has them. */
export function assetRoutes({ services: { assets } }: RouteContext): Handlers {
  async function send(
    { params: { bucket, path } }: { params: { bucket: string; path: string } },
    reply: FastifyReply,
  ): Promise<FastifyReply> {
    const asset = await assets?.find(bucket, path);
    if (assets === undefined || asset === undefined || asset === null)
      throw errors.notFound(`Asset ${bucket}/${path}`);
    return (
      reply
        .type(asset.contentType)
        .header('x-content-type-options', 'nosniff')
        // A later attempt of the same job may write the same name again: ask each time, send it once.
        .header('cache-control', 'private, no-cache')
        .sendFile(asset.file, assets.root, { cacheControl: false, contentType: false, dotfiles: 'allow' })
    );
  }

  return { getAsset: send, headAsset: send };
}
