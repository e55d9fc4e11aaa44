import type { LightMyRequestResponse } from 'fastify';
import {
  listOperations,
  plainPath,
  readDocument,
  type Method,
  type ResponseObject,
  type Schema,
} from '../../src/contract/document.js';
import { createContractValidator } from '../../src/contract/validator.js';

export type ContractChecker = ReturnType<typeof createContractChecker>;
export type CheckedResponse = Pick<LightMyRequestResponse, 'statusCode' | 'headers' | 'payload'>;

/**
 * Holds answers against openapi.yaml: the status must be declared, the content type too, and the body must be
 * exactly what its schema says (response schemas allow no extra fields). What no operation answers must be an
 * error in the shape of `Error`.
 */
export function createContractChecker(document = readDocument()) {
  const operations = listOperations(document);
  const validator = createContractValidator(document);
  const checkError = validator.forBody(validator.schemaOf('Error'));
  const checkEnhance = validator.forBody(validator.schemaOf('EnhanceFailure'));
  const seen = new Set<string>();

  return {
    operations,
    /** `operationId status` of every answer held against the contract so far. */
    seen: seen as ReadonlySet<string>,
    /** What is wrong with an answer; empty when it keeps the contract. */
    check(method: string, url: string, response: CheckedResponse): string[] {
      const path = plainPath(url.split('?')[0] ?? '');
      const status = String(response.statusCode);
      const problems =
        typeof response.headers['x-request-id'] === 'string' ? [] : ['there is no x-request-id'];
      const find = (wanted: Method) =>
        operations.find((one) => one.method === wanted && one.pattern.test(path));
      const own = find(method.toLowerCase() as Method);
      // As GET would be answered, without the body.
      const operation = own ?? (method === 'HEAD' ? find('get') : undefined);
      if (operation === undefined) {
        if (path.startsWith('/docs/') && response.statusCode < 400) return [];
        if (!['400', '404', '405'].includes(status))
          problems.push(`no operation declares ${method} ${path}, yet it answered ${status}`);
        return method === 'HEAD'
          ? problems
          : [
              ...problems,
              ...(path === '/enhance' ? checkEnhance : checkError)(parse(response.payload)).map(
                ({ message }) => message,
              ),
            ];
      }
      seen.add(`${operation.operationId} ${status}`);
      const declared: ResponseObject | undefined =
        operation.responses[status] ?? operation.responses[`${status[0]}XX`];
      if (declared === undefined)
        return [
          ...problems,
          `${operation.operationId} does not declare status ${status}: ${response.payload.slice(0, 300)}`,
        ];
      return [
        ...problems,
        ...checkContent(own === undefined ? { ...declared, content: {} } : declared, response).map(
          (problem) => `${operation.operationId} ${status}: ${problem}`,
        ),
      ];
    },
  };

  function checkContent({ content = {}, headers = {} }: ResponseObject, response: CheckedResponse): string[] {
    const problems = Object.keys(headers)
      .filter((name) => response.headers[name] === undefined)
      .map((name) => `header ${name} is missing`);
    const type = String(response.headers['content-type'] ?? '').split(';')[0] ?? '';
    if (Object.keys(content).length === 0)
      return [
        ...problems,
        ...(response.payload === ''
          ? []
          : [`it should have no body, but has ${response.payload.slice(0, 100)}`]),
      ];
    const media = content[type];
    if (media === undefined) return [...problems, `content type ${type || '(none)'} is not declared`];
    if (type === 'text/event-stream')
      return [...problems, ...checkEvents(eventSchemas(media.schema), response.payload)];
    if (type !== 'application/json') return problems;
    return [
      ...problems,
      ...validator
        .forBody(media.schema)(parse(response.payload))
        .map(({ message }) => message),
    ];
  }

  /** Schemas of the data of a stream's events, by name. */
  function eventSchemas({ $ref }: Schema & { $ref?: unknown }): Record<string, Schema> {
    const { oneOf } = document.components.schemas[String($ref).split('/').at(-1) ?? ''] as unknown as {
      oneOf: Array<{ properties: { event: { const: string }; data: { contentSchema: Schema } } }>;
    };
    return Object.fromEntries(
      oneOf.map(({ properties: { event, data } }) => [event.const, data.contentSchema]),
    );
  }

  function checkEvents(schemas: Record<string, Schema>, text: string): string[] {
    return text.split('\n\n').flatMap((frame) => {
      const fields = new Map(
        frame
          .split('\n')
          .filter((line) => !line.startsWith(':'))
          .map((line): [string, string] => [
            line.slice(0, line.indexOf(':')),
            line.slice(line.indexOf(':') + 2),
          ]),
      );
      const event = fields.get('event');
      if (event === undefined) return [];
      const schema = schemas[event];
      if (schema === undefined) return [`event ${event} is not declared`];
      return validator
        .forBody(schema)(parse(fields.get('data') ?? ''))
        .map(({ message }) => `event ${event}: ${message}`);
    });
  }
}

function parse(payload: string): unknown {
  try {
    return JSON.parse(payload) as unknown;
  } catch {
    return undefined;
  }
}
