import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import type { ErrorDetail } from '../lib/errors.js';
import type { OpenApiDocument, Schema } from './document.js';

export type Check = (value: unknown) => ErrorDetail[];
export type ContractValidator = ReturnType<typeof createContractValidator>;

/** Enough to mend a request by; a hostile body must not buy an endless answer. */
const mostDetails = 20;

/** What databases, file systems and tokenizers disagree about: NUL, and half of a surrogate pair. */
const unstorable = /[\0\p{Surrogate}]/u;

/**
 * Compiles schemas of the contract. Requests are checked without changing them, except that query strings
 * become numbers and booleans.
 */
export function createContractValidator(document: OpenApiDocument) {
  const create = (coerceTypes: boolean) => {
    const ajv = new Ajv2020({
      allErrors: true,
      strict: false,
      coerceTypes,
      useDefaults: coerceTypes,
      verbose: true,
    });
    formats.default(ajv, ['date-time']);
    // ajv-formats also takes "urn:uuid:…", which would become part of a storage path
    ajv.addFormat('uuid', /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i);
    ajv.addFormat('reference', isReference);
    ajv.addFormat('text', (text: string) => !unstorable.test(text));
    ajv.addSchema({ $id: 'openapi', components: document.components });
    return ajv;
  };
  const bodies = create(false);
  const queries = create(true);
  const compile = (ajv: Ajv2020, schema: Schema): ValidateFunction => ajv.compile(absolute(schema) as Schema);

  return {
    /** A check of a JSON body; details name fields as the client wrote them. */
    forBody(schema: Schema): Check {
      const validate = compile(bodies, schema);
      return (value) => (validate(value) ? [] : describe(validate.errors ?? [], 'body'));
    },
    /** A check that also fills in defaults and turns text into the schema's types, in place. */
    forParameters(schema: Schema, where: string): Check {
      const validate = compile(queries, schema);
      return (value) => (validate(value) ? [] : describe(validate.errors ?? [], where));
    },
    schemaOf(name: string): Schema {
      return { $ref: `#/components/schemas/${name}` };
    },
  };
}

/** Longer ones are refused wherever they are fetched. */
const longestAddress = 2048;

/** The forms a reference may have; whether there is something behind it is found out later. */
function isReference(text: string): boolean {
  if (unstorable.test(text)) return false;
  // Programs that write base64 end its lines, the last one too.
  if (/^\s*data:/i.test(text)) return true;
  if (text !== text.trim()) return false;
  return text.length <= longestAddress && /^([a-z][a-z0-9+.-]*:.|\/assets\/.|[a-z0-9_]{1,64}\/.)/i.test(text);
}

/** `#/components/…` means the contract, wherever the schema was cut out of it. */
function absolute(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(absolute);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      key === '$ref' && typeof inner === 'string' && inner.startsWith('#/')
        ? `openapi${inner}`
        : absolute(inner),
    ]),
  );
}

function describe(found: ErrorObject[], where: string): ErrorDetail[] {
  const details = new Map<string, ErrorDetail>();
  for (const error of found) {
    const base = error.instancePath
      .slice(1)
      .split('/')
      .filter((part) => part !== '')
      .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const field =
      [...base, ...(error.keyword === 'required' ? [String(error.params['missingProperty'])] : [])].join(
        '.',
      ) || where;
    const detail = { field, rule: error.keyword, message: sentence(field, error) };
    // the first broken rule of a field says enough
    if (!details.has(field) && details.size < mostDetails) details.set(field, detail);
  }
  return [...details.values()];
}

/** Of a `type` keyword; that a value may be absent goes without saying. */
const typeNames = (type: unknown) => [type].flat().filter((name) => name !== 'null');

const formatNames: Readonly<Record<string, string>> = {
  text: 'text without NUL and without half of a surrogate pair',
  reference:
    `an https address of at most ${longestAddress} characters, a data: address, asset:JOB_ID/N, ` +
    'or a file in storage (reference_images/…)',
};

function sentence(field: string, { keyword, params, schema, parentSchema }: ErrorObject): string {
  const list = (values: unknown) =>
    (values as unknown[])
      .filter((value) => value !== null)
      .map(String)
      .join(', ');
  switch (keyword) {
    case 'required':
      return `${field} is missing`;
    case 'type':
      return `${field} must be ${typeNames(schema).join(' or ')}`;
    case 'enum':
      return `${field} must be one of ${list(params['allowedValues'])}`;
    case 'const':
      return `${field} must be ${JSON.stringify(params['allowedValue'])}`;
    case 'minimum':
      return `${field} must be at least ${String(params['limit'])}`;
    case 'maximum':
      return `${field} must be at most ${String(params['limit'])}`;
    case 'exclusiveMinimum':
      return `${field} must be more than ${String(params['limit'])}`;
    case 'multipleOf':
      return `${field} must be a multiple of ${String(params['multipleOf'])}`;
    case 'minLength':
      return `${field} must have at least ${String(params['limit'])} characters`;
    case 'maxLength':
      return `${field} must have at most ${String(params['limit'])} characters`;
    case 'format':
      return `${field} must be ${formatNames[String(params['format'])] ?? `a ${String(params['format'])}`}`;
    case 'pattern':
      // Beside each pattern of openapi.yaml stands what it means; a regular expression tells people nothing.
      return `${field} must ${String(parentSchema?.['x-must'])}`;
    case 'minItems':
      return `${field} must have at least ${String(params['limit'])} entries`;
    case 'maxItems':
      return `${field} must have at most ${String(params['limit'])} entries`;
    case 'uniqueItems':
      return `${field} must not have the same entry twice`;
    case 'additionalProperties':
      return `${field} must not have ${String(params['additionalProperty'])}`;
    default:
      return `${field} breaks the rule ${keyword}`;
  }
}
