import { isUtf8 } from 'node:buffer';
import fp from 'fastify-plugin';
import { errors } from '../lib/errors.js';
import { isWrapped, withoutMark } from '../services/queue/read-payload.js';

const forbidden = 'body must not have the keys __proto__ or constructor.prototype';

/**
 * JSON is the only kind of body. An empty one is none (clients send the header with DELETE too), and a
 * refused one says why: the parser's own words name the place, which Fastify's error leaves out.
 */
export const jsonBodyPlugin = fp(
  (app, _options, done) => {
    const parseSafely = app.getDefaultJsonParser('error', 'error');
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes: Buffer, finish) => {
      if (!isUtf8(bytes)) return finish(refusal('utf8', 'body is not UTF-8', 'it is not UTF-8'));
      const text = withoutMark(bytes.toString());
      if (text.trim() === '') return finish(null, undefined);
      const parse = (document: string, then: (error: Error | null, body?: unknown) => void) =>
        void parseSafely(request, document, (error, body) => {
          if (error === null) return then(null, body);
          const reason = whyNotJson(document);
          then(
            reason === null
              ? errors.invalidParameters.with(
                  { details: [{ field: 'body', rule: 'prototype', message: forbidden }] },
                  forbidden,
                )
              : refusal('json', 'body is not valid JSON', reason),
          );
        });
      parse(text, (error, body) => {
        if (isWrapped(body)) parse(withoutMark(body), finish);
        else finish(error, body);
      });
    });
    done();
  },
  { name: 'json-body', fastify: '5.x' },
);

const refusal = (rule: string, message: string, reason: string) =>
  errors.invalidJson.with({ details: [{ field: 'body', rule, message }] }, reason);

/** Null for JSON that was refused for its keys alone. */
function whyNotJson(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}
