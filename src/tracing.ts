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
