import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { OpenApiDocument } from '../contract/document.js';
import { errors } from '../lib/errors.js';
import { projectRoot } from '../lib/project.js';

declare module 'fastify' {
  interface FastifyReply {
    /** The console's page, to who accepts HTML; undefined: something else was asked for. */
    sendConsole(request: FastifyRequest): FastifyReply | undefined;
    sendConsoleFile(name: string): FastifyReply;
  }
}

const folder = path.join(projectRoot(), 'dist', 'console');
const page = 'index.html';

/**
 * The console: a page at `/` and the files it is made of, built into `dist/console`. It may load nothing from anywhere
 * else, and runs no script but its own; pictures may come from the storage, too.
 */
export const consolePlugin = fp<{ storageUrl: string | undefined }>(
  (app, { storageUrl }, done) => {
    const storage = storageUrl === undefined ? '' : ` ${new URL(storageUrl).origin}`;
    const policy = [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "font-src 'self'",
      "connect-src 'self'",
      `img-src 'self' data: blob:${storage}`,
      `media-src 'self'${storage}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ].join('; ');
    // A checkout that was never built has none: the rest of the service does without.
    const files = new Set(readNames());

    app.decorateReply('sendConsole', function (this: FastifyReply, { headers }: FastifyRequest) {
      // CORS_ORIGINS may have put Origin there.
      this.header('vary', [this.getHeader('vary') ?? [], 'accept'].flat().join(', '));
      if (!files.has(page) || headers.accept?.includes('text/html') !== true) return undefined;
      return this.headers({
        'content-security-policy': policy,
        'referrer-policy': 'no-referrer',
        'cross-origin-opener-policy': 'same-origin',
        'cache-control': 'no-cache',
      }).sendFile(page, folder, { cacheControl: false });
    });
    app.decorateReply('sendConsoleFile', function (this: FastifyReply, name: string) {
      if (!files.has(name) || name === page) throw errors.notFound(`The console's file ${name}`);
      return this.sendFile(name, folder, { immutable: true, maxAge: '365d' });
    });
    done();
  },
  { name: 'console', fastify: '5.x' },
);

function readNames(): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

const ownIcon = () =>
  readNames()
    .filter((name) => /^icon-.*\.svg$/.test(name))
    .map((filename) => ({
      filename,
      rel: 'icon',
      type: 'image/svg+xml',
      sizes: 'any',
      content: readFileSync(path.join(folder, filename), 'utf8'),
    }));

/** The contract for people at `/docs`, from files of the package alone: works without any network. */
export const docsPlugin = fp<{ document: OpenApiDocument }>(
  async (app, { document }) => {
    await app.register(swagger, { mode: 'static', specification: { document: document as never } });
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      // The plugin's own policy allows fonts and styles from anywhere and turns http into https, which breaks
      // a service without TLS.
      transformStaticCSP: () =>
        [
          "default-src 'self'",
          "img-src 'self' data:",
          "style-src 'self' 'unsafe-inline'",
          "object-src 'none'",
          "base-uri 'none'",
          "frame-ancestors 'self'",
        ].join('; '),
      theme: { title: 'OurVidz worker', favicon: ownIcon() },
      // The other layout has Swagger's logo on top, and a field for the address of somebody else's document.
      uiConfig: { layout: 'BaseLayout', docExpansion: 'list', deepLinking: true, tryItOutEnabled: true },
    });
  },
  { name: 'docs', fastify: '5.x' },
);
