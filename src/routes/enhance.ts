import type { FastifyRequest } from 'fastify';
import { createHash } from 'node:crypto';
import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { clipWindow } from '../inference/generation.js';
import { parsePrompt } from '../lib/prompt-weights.js';
import { AppError, enhanceFailureBody, errors } from '../lib/errors.js';
import type { EnhancePromptAnswer, EnhancePromptRequest } from '../services/enhancement/enhancement-types.js';
import type { Services } from '../services/index.js';
import { compelOff, dropTags, engineNotes, parseCompelWeights } from '../services/jobs/compel-weights.js';
import { notesOf } from '../services/jobs/plan.js';
import { type RouteContext, sendEvents, type ServerSentEvent } from './context.js';

type EnhanceBody = components['schemas']['EnhanceRequest'];

export function enhanceRoutes({ services, disconnect }: RouteContext): Handlers {
  return {
    async enhancePrompt(request, reply) {
      const { body } = request;
      if (services.enhancement === undefined) throw errors.enhancementFailed('Model not available');
      const signal = disconnect.of(reply);
      const asked = { ...toRequest(body), owner: ownerOf(request) };
      if (body.stream === true)
        return sendEvents(reply, streamAnswer(services.enhancement, asked, signal, request.id));
      try {
        const answer = await services.enhancement.enhance(asked, signal);
        if (!answer.success) throw errors.enhancementFailed(answer.reason);
        return answerOf(asked, answer);
      } catch (error) {
        // nobody reads it when the client went away; a service that stops still owes the prompt
        if (signal.aborted) throw errors.enhancementFailed('the service is stopping');
        throw error;
      }
    },

    async deleteEnhanceSession(request, reply) {
      await services.enhancement?.forgetSession(ownerOf(request), request.params.session_id);
      return reply.code(204).send();
    },
  };
}

/**
 * `token` events while the text is written (`discard` when another attempt begins), then `done` with what the
 * plain answer would have been, or `error`.
 */
async function* streamAnswer(
  enhancement: NonNullable<Services['enhancement']>,
  asked: EnhancePromptRequest,
  signal: AbortSignal,
  requestId: string,
): AsyncGenerator<ServerSentEvent> {
  const written: ServerSentEvent[] = [];
  let wake = () => {};
  const push = (event: ServerSentEvent) => {
    written.push(event);
    wake();
  };
  const running = enhancement.enhance(
    {
      ...asked,
      onToken: (text) => push({ event: 'token', data: { text } }),
      onDiscard: (reason) => push({ event: 'discard', data: { reason } }),
    },
    signal,
  );
  let ended = false;
  running.then(
    () => {
      ended = true;
      wake();
    },
    () => {
      ended = true;
      wake();
    },
  );
  for (;;) {
    for (let event = written.shift(); event !== undefined; event = written.shift()) yield event;
    if (ended) break;
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (written.length > 0 || ended) resolve();
    });
  }
  const failure = (error: AppError) => enhanceFailureBody(error, requestId, asked.prompt);
  try {
    const answer = await running;
    const data = answer.success ? answerOf(asked, answer) : failure(errors.enhancementFailed(answer.reason));
    yield { event: 'done', data };
  } catch (error) {
    if (signal.aborted) return;
    yield { event: 'error', data: failure(error instanceof AppError ? error : errors.internal()) };
  }
}

function toRequest(body: EnhanceBody): EnhancePromptRequest {
  const {
    prompt,
    model,
    session_id: sessionId,
    conversation_context: conversationContext,
    max_tokens: maxTokens,
    temperature,
    seed,
    target,
    template,
  } = body;
  const given = Object.entries({
    model,
    sessionId,
    conversationContext,
    maxTokens,
    temperature,
    seed,
    target,
    template,
  }).filter(([, value]) => value !== undefined && value !== null);
  return { prompt, ...(Object.fromEntries(given) as Partial<EnhancePromptRequest>) };
}

function answerOf(
  { prompt, model }: Pick<EnhancePromptRequest, 'prompt' | 'model'>,
  answer: Extract<EnhancePromptAnswer, { success: true }>,
): components['schemas']['EnhanceResult'] {
  return {
    success: true,
    enhanced_prompt: answer.enhancedPrompt,
    original_prompt: prompt,
    enhancement_source: answer.source,
    processing_time: answer.seconds,
    model: model ?? answer.source,
    model_name: answer.model,
    prompt_tokens: answer.promptTokens,
    completion_tokens: answer.completionTokens,
    template: answer.template,
    attempts: answer.attempts,
    fallback: answer.fallback,
    ...(answer.fallbackReason === undefined ? {} : { fallback_reason: answer.fallbackReason }),
  };
}

/** Conversations belong to the key that began them; the key itself goes no further than here. */
function ownerOf({ headers, caller }: Pick<FastifyRequest, 'headers' | 'caller'>): string {
  if (caller?.userId !== undefined) return caller.userId;
  return createHash('sha256')
    .update((headers.authorization ?? '').replace(/^bearer\s+/i, ''))
    .digest('base64url');
}

export function testCompelRoutes({ services, disconnect, facts }: RouteContext): Handlers {
  return {
    async testCompel(request, reply) {
      const { prompt, compel_weights: text = null } = request.body;
      const isEmpty = text === null || text.trim() === '';
      const parsed = isEmpty || !facts.compel ? null : parseCompelWeights(text);
      const weights = parsed?.valid === true ? parsed.weights : [];
      const words = dropTags(prompt);
      if (facts.compel) parsePrompt(words.text, 'both', words.notes);
      const described = await services.engines.describePrompt(
        { prompt: words.text, weights, parseWeights: facts.compel },
        disconnect.of(reply),
      );
      const success = described.weightsUsed.length > 0;
      return {
        prompt,
        compel_weights: text,
        parsed_weights: weights,
        dropped_weights: [...(parsed?.valid === true ? parsed.dropped : []), ...described.weightsDropped],
        combined_prompt: described.combinedPrompt ?? words.text,
        prompt_notes: notesOf(
          ['prompt', words.notes],
          ['compel_weights', parsed?.notes ?? []],
          ...engineNotes(described),
        ),
        token_count: described.tokenCount,
        token_limit: clipWindow,
        tensor_shapes: described.tensorShapes,
        tokens: described.tokens,
        compel_success: success,
        enhancement_strategy: success ? 'compel' : isEmpty || !facts.compel ? 'none' : 'fallback',
        final_prompt_type: success ? 'conditioning_tensor' : 'string',
        ...(facts.compel ? {} : { compel_error: compelOff }),
        ...(parsed?.valid === false ? { compel_error: parsed.reason } : {}),
      };
    },
  };
}
