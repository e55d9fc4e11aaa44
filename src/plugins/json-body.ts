import fp from 'fastify-plugin';
import { errors } from '../lib/errors.js';

const forbidden = 'body must not have the keys __proto__ or constructor.prototype';

/**
 * JSON is the only kind of body. An empty one is none (clients send the header with DELETE too), and a
 * refused one says why: the parser's own words name the place, which Fastify's error leaves out.
 */
export const jsonBodyPlugin = fp(
  (app, _options, done) => {
    const parseSafely = app.getDefaultJsonParser('error', 'error');
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text: string, finish) => {
      if (text.trim() === '') return finish(null, undefined);
      void parseSafely(request, text, (error, body) => {
        if (error === null) return finish(null, body);
        const reason = whyNotJson(text);
        finish(
          reason === null
            ? errors.invalidParameters.with(
                { details: [{ field: 'body', rule: 'prototype', message: forbidden }] },
                forbidden,
              )
            : errors.invalidJson.with(
                { details: [{ field: 'body', rule: 'json', message: 'body is not valid JSON' }] },
                reason,
              ),
        );
      });
    });
    done();
  },
  { name: 'json-body', fastify: '5.x' },
);

/** Null for JSON that was refused for its keys alone. */
function whyNotJson(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}
