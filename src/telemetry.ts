import { hostname } from 'node:os';
import { type DestinationStream, type Logger, pino } from 'pino';
import { type Config, secretsOf } from './config.js';
import { printable } from './lib/printable.js';
import { QueueUnavailable } from './services/queue/index.js';

/**
 * Fields that hold what users wrote, at the top of a line or one below, and what clients of Redis were asked
 * to send.
 */
const promptFields = [
  'prompt',
  'original_prompt',
  'enhanced_prompt',
  'negative_prompt',
  'conversation_context',
  'payload',
]
  .flatMap((field) => [field, `*.${field}`])
  .concat('err.command.args', 'err.previousErrors');
const levels = { debug: 20, fatal: 60 };
const secretFields = ['authorization', 'headers.authorization', 'req.headers.authorization'];

/**
 * The service's log: JSON lines. Configured secrets are cut out of every line, wherever they come from (an
 * address in an error message, a header in a dump); prompts are redacted unless LOG_PROMPTS is on. A terminal
 * that shows the log obeys nothing in it.
 */
export function createLog(config: Config, destination?: DestinationStream): Logger {
  const secrets = secretsOf(config).map((secret) => JSON.stringify(secret).slice(1, -1));
  return pino(
    {
      level: config.logLevel,
      redact: {
        paths: config.logPrompts ? secretFields : [...secretFields, ...promptFields],
        censor: '[redacted]',
      },
      hooks: {
        // An outage of the queue meets all who use it at once; the queue itself tells of it.
        logMethod(line, method, level) {
          const { err } = line[0] as { err?: unknown };
          if (err instanceof QueueUnavailable && level > levels.debug && level < levels.fatal)
            this.debug(...line);
          else method.apply(this, line);
        },
        streamWrite: (line) =>
          printable(secrets.reduce((text, secret) => text.replaceAll(secret, '[secret]'), line)),
      },
    },
    destination ?? pino.destination(1),
  );
}

export interface Tracing {
  /** Sends what is left. */
  stop(): Promise<void>;
}

/**
 * Sends spans to an OpenTelemetry collector over OTLP/HTTP: jobs, their stages, and outgoing requests (undici
 * and fetch), which carry the trace on in their `traceparent` header. Without an endpoint nothing of the SDK
 * is loaded, and the calls to its API in the services do nothing.
 */
export async function startTracing(
  config: Pick<Config, 'otlpEndpoint' | 'otlpServiceName'>,
  { version }: { version: string },
): Promise<Tracing | undefined> {
  if (config.otlpEndpoint === undefined) return undefined;
  const [
    { BatchSpanProcessor, NodeTracerProvider },
    { OTLPTraceExporter },
    { resourceFromAttributes },
    { registerInstrumentations },
    { UndiciInstrumentation },
  ] = await Promise.all([
    import('@opentelemetry/sdk-trace-node'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/instrumentation'),
    import('@opentelemetry/instrumentation-undici'),
  ]);
  // It reads OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS itself.
  const exporter = new OTLPTraceExporter();
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      'service.name': config.otlpServiceName,
      'service.version': version,
      'service.instance.id': `${hostname()}-${process.pid}`,
    }),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  provider.register();
  // Only within a job, an enhancement or a callback: polling and registration would drown them.
  const unregister = registerInstrumentations({
    tracerProvider: provider,
    instrumentations: [new UndiciInstrumentation({ requireParentforSpans: true })],
  });
  return {
    async stop() {
      unregister();
      await provider.shutdown();
    },
  };
}
