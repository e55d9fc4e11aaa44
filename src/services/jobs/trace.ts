import { context, propagation, ROOT_CONTEXT, SpanKind, trace, type Span } from '@opentelemetry/api';
import type { EngineEvent } from '../../inference/engine-protocol.js';
import type { Reservation } from '../queue/job-store.js';
import { markFailed, tracer, type TraceCarrier } from '../../lib/trace.js';
import type { ValidJob } from './payload.js';

/**
 * One attempt as a span under its producer's (the payload's `traceparent`), its stages as spans under that.
 * Does nothing while tracing is off.
 */
export function traceAttempt({
  job,
  reservation,
  engine,
}: {
  job: ValidJob;
  reservation: Reservation;
  engine: string;
}) {
  const parent = propagation.extract(ROOT_CONTEXT, carrierOf(job));
  const span = tracer().startSpan(
    `job ${job.type}`,
    {
      kind: SpanKind.CONSUMER,
      attributes: {
        'job.id': job.id,
        'job.type': job.type,
        'job.attempt': reservation.attempt,
        'job.queue': reservation.lease.queue,
        'job.worker': engine,
        'job.queued_seconds': (Date.now() - reservation.queuedAtMs) / 1000,
      },
    },
    parent,
  );
  const own = trace.setSpan(parent, span);
  let engineSpan: Span | undefined;
  let engineStage: string | undefined;

  function endEngineStage(): void {
    engineSpan?.end();
    engineSpan = engineStage = undefined;
  }

  return {
    /** `work` and the requests it makes, as one stage. */
    async stage<T>(name: string, work: () => Promise<T>): Promise<T> {
      const stage = tracer().startSpan(name, {}, own);
      try {
        return await context.with(trace.setSpan(own, stage), work);
      } catch (error) {
        markFailed(stage, error);
        throw error;
      } finally {
        endEngineStage();
        stage.end();
      }
    },
    /** The engine tells its stages as they begin. */
    engineEvent(event: EngineEvent): void {
      if (event.kind !== 'progress' || event.stage === engineStage) return;
      endEngineStage();
      engineStage = event.stage;
      engineSpan = tracer().startSpan(`engine ${event.stage}`, {}, own);
    },
    /** For what goes on after the attempt: its callbacks. */
    carrier(): TraceCarrier {
      const carrier: TraceCarrier = {};
      propagation.inject(own, carrier);
      return carrier;
    },
    end(outcome: string, error?: unknown): void {
      span.setAttribute('job.outcome', outcome);
      if (error !== undefined) markFailed(span, error);
      span.end();
    },
  };
}

/** Unchecked text of a producer: what is no trace context is none. */
function carrierOf({ traceparent, tracestate }: ValidJob): TraceCarrier {
  if (typeof traceparent !== 'string') return {};
  return { traceparent, ...(typeof tracestate === 'string' ? { tracestate } : {}) };
}
