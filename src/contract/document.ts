import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { projectRoot } from '../lib/project.js';

/** The parts of OpenAPI 3.1 this service reads of its own contract. */
export interface Schema {
  [keyword: string]: unknown;
}
export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required?: boolean;
  schema: Schema;
}
export interface Operation {
  operationId: string;
  /** `[]`: open to everybody; else the scopes a key needs. */
  security?: Array<Record<string, string[]>>;
  parameters?: Parameter[];
  requestBody?: {
    required?: boolean;
    'x-empty-is-absent'?: boolean;
    content: Record<string, { schema: Schema }>;
  };
  responses: Record<string, ResponseObject | { $ref: string }>;
}
export interface ResponseObject {
  description: string;
  headers?: Record<string, unknown>;
  /** Of an event stream: one event, as `JobEvent`. */
  content?: Record<string, { schema: Schema }>;
}
export interface OpenApiDocument {
  info: { version: string; summary: string };
  paths: Record<string, { parameters?: Parameter[] } & Partial<Record<Method, Operation>>>;
  components: { schemas: Record<string, Schema>; responses: Record<string, ResponseObject> };
}
/** What a key may be allowed to do. */
export const scopes = ['jobs', 'enhance', 'status', 'operate'] as const;
export type Scope = (typeof scopes)[number];
export const methods = ['get', 'head', 'post', 'delete'] as const;
export type Method = (typeof methods)[number];

/** One route of the contract: everything needed to register it. */
export interface ContractOperation {
  operationId: string;
  method: Method;
  /** As in the contract: `/jobs/{id}`. */
  path: string;
  /** As Fastify writes it: `/jobs/:id`; the last part of an asset's address may contain slashes. */
  url: string;
  /** Matches plain paths of requests for it. */
  pattern: RegExp;
  open: boolean;
  /** What a key must be allowed to do; null: any key will do. */
  scope: Scope | null;
  /** A token may stand in the query. */
  tokenInQuery: boolean;
  parameters: Parameter[];
  body: Schema | null;
  /** `x-empty-is-absent`: null and "" in the body say what a missing field says. */
  emptyIsAbsent: boolean;
  responses: Record<string, ResponseObject>;
}

/** A request's path as the router reads it: slashes that repeat or end it mean nothing. */
export const plainPath = (path: string): string => path.replaceAll(/\/{2,}/g, '/').replace(/(.)\/$/, '$1');

export function readDocument(file = path.join(projectRoot(), 'openapi.yaml')): OpenApiDocument {
  return parse(readFileSync(file, 'utf8')) as OpenApiDocument;
}

export function listOperations(document: OpenApiDocument): ContractOperation[] {
  return Object.entries(document.paths).flatMap(([route, item]) =>
    methods.flatMap((method): ContractOperation[] => {
      const operation = item[method];
      if (operation === undefined) return [];
      return [
        {
          operationId: operation.operationId,
          method,
          path: route,
          url:
            route === '/assets/{bucket}/{path}' ? '/assets/:bucket/*' : route.replaceAll(/\{(\w+)\}/g, ':$1'),
          pattern: new RegExp(`^${route.replace('{path}', '.+').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
          open: operation.security?.length === 0,
          scope: scopeOf(operation),
          tokenInQuery: operation.security?.some((scheme) => 'tokenInQuery' in scheme) ?? false,
          parameters: [...(item.parameters ?? []), ...(operation.parameters ?? [])],
          body: operation.requestBody?.content['application/json']?.schema ?? null,
          emptyIsAbsent: operation.requestBody?.['x-empty-is-absent'] === true,
          responses: Object.fromEntries(
            Object.entries(operation.responses).map(([status, response]) => [
              status,
              resolveResponse(document, response),
            ]),
          ),
        },
      ];
    }),
  );
}

function scopeOf({ operationId, security = [] }: Operation): Scope | null {
  const [name] = security.flatMap((requirement) => requirement['bearer'] ?? []);
  if (name === undefined) return null;
  const scope = scopes.find((known) => known === name);
  if (scope === undefined) throw new Error(`openapi.yaml gives ${operationId} the unknown scope ${name}`);
  return scope;
}

function resolveResponse(
  document: OpenApiDocument,
  response: ResponseObject | { $ref: string },
): ResponseObject {
  if (!('$ref' in response)) return response;
  const found = document.components.responses[response.$ref.split('/').at(-1) ?? ''];
  if (found === undefined) throw new Error(`openapi.yaml refers to ${response.$ref}, which is not there`);
  return found;
}
