import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fp from 'fastify-plugin';
import type { OpenApiDocument } from '../contract/document.js';

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
      theme: { title: 'OurVidz worker' },
      uiConfig: { docExpansion: 'list', deepLinking: true, tryItOutEnabled: true },
    });
  },
  { name: 'docs', fastify: '5.x' },
);
