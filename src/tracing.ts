import { hostname } from 'node:os';
import type { Config } from './config.js';

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
  config: Pick<Config, 'otlpEndpoint' | 'otlpHeaders' | 'otlpServiceName'>,
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
  const exporter = new OTLPTraceExporter({
    url: `${config.otlpEndpoint}/v1/traces`,
    headers: parseHeaders(config.otlpHeaders),
  });
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

/** `name=value,name=value`, values percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS is written. */
function parseHeaders(text: string | undefined): Record<string, string> {
  const pairs = (text ?? '').split(',').map((pair) => pair.split('=', 2).map((part) => part.trim()));
  return Object.fromEntries(
    pairs
      .filter(([name, value]) => name !== '' && value !== undefined)
      .map(([name = '', value = '']) => [name, decodeURIComponent(value)]),
  );
}
