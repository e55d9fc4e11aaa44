import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import {
  type ContractOperation,
  listOperations,
  type Parameter,
  plainPath,
  readDocument,
  type Schema,
  type Scope,
} from './document.js';
import type { operations } from './generated.js';
import { type Check, createContractValidator } from './validator.js';
import { type ErrorDetail, errors } from '../lib/errors.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Names the operation of openapi.yaml a route carries out. */
    operationId?: string;
    /** What a key needs for it; null: any key will do. */
    scope?: Scope | null;
    /** A token may stand in the query: for what images and event sources fetch. */
    tokenInQuery?: boolean;
  }
}

export type OperationId = keyof operations;
type ParametersIn<
  Id extends OperationId,
  Place extends 'path' | 'query' | 'header',
> = operations[Id]['parameters'] extends { [P in Place]?: infer Values } ? Exclude<Values, undefined> : never;
type JsonOf<Response> = Response extends { content: { 'application/json': infer Body } } ? Body : never;
type BodyOf<Id extends OperationId> = operations[Id] extends {
  requestBody: { content: { 'application/json': infer Body } };
}
  ? Body
  : undefined;

/** A request whose parameters and body passed the contract's schemas. */
export type ContractRequest<Id extends OperationId> = FastifyRequest<{
  Params: [ParametersIn<Id, 'path'>] extends [never] ? unknown : ParametersIn<Id, 'path'>;
  Querystring: [ParametersIn<Id, 'query'>] extends [never] ? unknown : ParametersIn<Id, 'query'>;
  Body: BodyOf<Id>;
}>;
/** Any JSON body the contract declares for the operation, errors apart: those are thrown. */
export type ContractBody<Id extends OperationId> = JsonOf<
  operations[Id]['responses'][Exclude<keyof operations[Id]['responses'], '4XX' | '5XX'>]
>;
export type Handler<Id extends OperationId> = (
  request: ContractRequest<Id>,
  reply: FastifyReply,
) => Promise<ContractBody<Id> | FastifyReply> | ContractBody<Id> | FastifyReply;
export type Handlers = { [Id in OperationId]?: Handler<Id> };

export type Contract = ReturnType<typeof createContract>;

/** openapi.yaml as routes: paths, methods and request checks come from it; handlers bring what is done. */
export function createContract(document = readDocument()) {
  const list = listOperations(document);
  const validator = createContractValidator(document);
  const byId = new Map(list.map((operation) => [operation.operationId, operation]));

  return {
    document,
    operations: list as readonly ContractOperation[],

    /**
     * Registers the operations named by the handlers. `access` is what the scope does: an operation the
     * contract calls open never ends up behind the key, and none that needs it in front.
     */
    register(scope: FastifyInstance, access: 'open' | 'protected', handlers: Handlers): void {
      for (const [operationId, handler] of Object.entries(handlers)) {
        const operation = byId.get(operationId);
        if (operation === undefined) throw new Error(`openapi.yaml has no operation ${operationId}`);
        const asked = operation.open ? 'open' : 'protected';
        if (asked !== access)
          throw new Error(
            `${operationId} is ${asked} in openapi.yaml, but stands among the ${access} routes`,
          );
        scope.route({
          method: operation.method.toUpperCase(),
          url: operation.url,
          config: { operationId, scope: operation.scope, tokenInQuery: operation.tokenInQuery },
          // HEAD is answered wherever GET is; the contract names it where it says more than GET without a body.
          exposeHeadRoute: !list.some(({ method, url }) => method === 'head' && url === operation.url),
          preValidation: createRequestCheck(operation, validator),
          handler: handler as unknown as RouteOptions['handler'],
        });
      }
    },

    /**
     * Compares routes and operations both ways once everything is registered; the app does not start when
     * they differ.
     */
    requireCompleteness(
      app: FastifyInstance,
      { served }: { served: ReadonlyArray<{ operationId: OperationId; below: string }> },
    ): void {
      const routes: Array<{ method: string; url: string; operationId: string | undefined }> = [];
      app.addHook('onRoute', ({ method, url, config }) => {
        for (const one of [method].flat())
          routes.push({ method: one, url, operationId: config?.operationId });
      });
      app.addHook('onReady', async () => {
        const found = new Set(routes.map(({ operationId }) => operationId));
        const missing = list.filter(
          ({ operationId, url }) =>
            !found.has(operationId) &&
            !served.some(
              (page) => page.operationId === operationId && routes.some((route) => route.url === url),
            ),
        );
        const extra = routes.filter(
          ({ method, url, operationId }) =>
            operationId === undefined &&
            method !== 'OPTIONS' &&
            !served.some(({ below }) => url === below || url.startsWith(`${below}/`)),
        );
        const problems = [
          ...missing.map(({ operationId }) => `${operationId} of openapi.yaml has no route`),
          ...extra.map(({ method, url }) => `${method} ${url} is not in openapi.yaml`),
        ];
        if (problems.length > 0) throw new Error(`Routes and contract differ: ${problems.join('; ')}`);
      });
    },

    /** Whether a path is one of the contract, and was taken for a value within another: `GET /jobs/cancel`. */
    isMistaken: (pathname: string, routed: string | undefined): boolean => {
      const path = plainPath(pathname);
      return path !== routed && list.some(({ url }) => url === path);
    },

    /** Methods the contract has for a path, for 405. */
    methodsFor(pathname: string): string[] {
      const path = plainPath(pathname);
      const named = list.filter(({ url }) => url === path);
      const found = named.length > 0 ? named : list.filter(({ pattern }) => pattern.test(path));
      return [
        ...new Set(
          found.flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()])),
        ),
      ];
    },
  };
}

function createRequestCheck(
  operation: ContractOperation,
  validator: ReturnType<typeof createContractValidator>,
) {
  const places = (['path', 'query', 'header'] as const).map((place) => ({
    place,
    check: parametersCheck(
      operation.parameters.filter((parameter) => parameter.in === place),
      validator,
      place,
    ),
  }));
  // The payload of a job is checked by the job service, which knows the catalogue too and names the field
  // more exactly.
  const checkBody =
    operation.body === null || operation.operationId === 'createJob'
      ? null
      : validator.forBody(operation.body);

  return async function checkRequest(request: FastifyRequest): Promise<void> {
    const details: ErrorDetail[] = [];
    for (const { place, check } of places) {
      if (check === null) continue;
      details.push(
        ...check(
          place === 'path'
            ? nameWildcard(request, operation)
            : place === 'query'
              ? request.query
              : pick(request.headers, operation.parameters),
        ),
      );
    }
    if (operation.emptyIsAbsent) request.body = withoutEmpty(request.body);
    if (operation.body !== null && request.body === undefined)
      details.push({ field: 'body', rule: 'required', message: 'body is missing' });
    else if (checkBody !== null) details.push(...checkBody(request.body));
    if (details.length > 0)
      throw errors.invalidParameters.with({ details }, details.map(({ message }) => message).join('; '));
  };
}

function withoutEmpty(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return body;
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null && value !== ''));
}

function parametersCheck(
  parameters: Parameter[],
  validator: ReturnType<typeof createContractValidator>,
  place: string,
): Check | null {
  if (parameters.length === 0) return null;
  const schema: Schema = {
    type: 'object',
    properties: Object.fromEntries(
      parameters.map(({ name, schema: inner }) => [place === 'header' ? name.toLowerCase() : name, inner]),
    ),
    required: parameters.filter(({ required }) => required).map(({ name }) => name),
  };
  return validator.forParameters(schema, place);
}

/** Fastify calls the rest of a path `*`; the contract gives it a name. */
function nameWildcard({ params: raw }: FastifyRequest, { path }: ContractOperation): Record<string, string> {
  const params = raw as Record<string, string>;
  const name = /\{(\w+)\}$/.exec(path)?.[1];
  if (name !== undefined && params['*'] !== undefined) {
    params[name] = params['*'];
    delete params['*'];
  }
  return params;
}

function pick(headers: FastifyRequest['headers'], parameters: Parameter[]): Record<string, unknown> {
  return Object.fromEntries(
    parameters
      .filter((parameter) => parameter.in === 'header')
      .map(({ name }): [string, unknown] => [name.toLowerCase(), headers[name.toLowerCase()]])
      .filter(([, value]) => value !== undefined),
  );
}
