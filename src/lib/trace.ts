import {
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Span,
} from '@opentelemetry/api';

/** W3C trace context as it travels in payloads and outbox entries. */
export interface TraceCarrier {
  traceparent?: string;
  tracestate?: string;
}

export const tracer = () => trace.getTracer('ourvidz-worker');

/** What is sent within `work` belongs to the trace that `carrier` names. */
export function withinTrace<T>(carrier: TraceCarrier, name: string, work: () => Promise<T>): Promise<T> {
  if (carrier.traceparent === undefined) return work();
  const parent = propagation.extract(ROOT_CONTEXT, carrier);
  const span = tracer().startSpan(name, { kind: SpanKind.PRODUCER }, parent);
  return context.with(trace.setSpan(parent, span), work).finally(() => span.end());
}

export function markFailed(span: Span, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  span.setStatus({ code: SpanStatusCode.ERROR, message });
  span.recordException(error instanceof Error ? error : message);
}
