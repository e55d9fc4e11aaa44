import type { Logger } from 'pino';
import { AppError } from '../../lib/errors.js';
import { withoutSession } from '../enhancement/enhancement.js';
import type { EnhancementService } from '../enhancement/enhancement-types.js';
import type { EnhanceRequest } from './runner-context.js';
import type { EnhancementOutcome, EnhancementType } from './plan.js';

/**
 * Rewrites a job's prompt through the enhancement service, or leaves it: a job never fails for want of a
 * better prompt. `chat` and `instruct_chat` need a session to talk in; without one, and without any type, it
 * is `base`. The outcome's type is the one that answered.
 */
export function createJobEnhancer({
  enhancement,
  log,
}: {
  enhancement: Pick<EnhancementService, 'enhance'>;
  log: Logger;
}) {
  return async function enhanceJob(
    { jobId, userId, prompt, type: asked, sessionId, context, target }: EnhanceRequest,
    signal: AbortSignal,
  ): Promise<EnhancementOutcome> {
    const startedMs = performance.now();
    const type: EnhancementType = asked !== 'base' && sessionId === undefined ? 'base' : asked;
    const original = (reason: string): EnhancementOutcome => ({
      type,
      prompt,
      success: false,
      seconds: (performance.now() - startedMs) / 1000,
      source: 'original',
      reason,
    });
    try {
      const answer = await enhancement.enhance(
        {
          // WAN reads 512 tokens: SDXL's window is no measure here. A session id is the user's own, whoever
          // else uses the same.
          prompt,
          target,
          fitWindow: false,
          patient: true,
          owner: `user:${userId}`,
          model: type === 'base' ? 'qwen_base' : 'qwen_instruct',
          ...(type !== 'base' && sessionId !== undefined ? { sessionId } : {}),
          ...(context === undefined ? {} : { conversationContext: context }),
        },
        signal,
      );
      if (!answer.success) {
        log.warn({ job_id: jobId, stage: 'enhance', reason: answer.reason }, 'the prompt is used as it came');
        return original(answer.reason);
      }
      const reason = type === asked ? answer.fallbackReason : withoutSession;
      if (reason !== undefined)
        log.info({ job_id: jobId, stage: 'enhance', reason }, 'enhanced otherwise than asked for');
      return {
        type: answer.source === 'qwen_base' ? 'base' : type,
        prompt: answer.enhancedPrompt,
        success: true,
        seconds: (performance.now() - startedMs) / 1000,
        source: answer.source,
        ...(reason === undefined ? {} : { reason }),
      };
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ job_id: jobId, stage: 'enhance', err: error }, 'the prompt is used as it came');
      return original(error instanceof AppError ? error.message : 'The model failed');
    }
  };
}
