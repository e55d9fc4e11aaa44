import type { Handlers } from '../contract/routes.js';
import { clipWindow } from '../inference/generation.js';
import { formatWeight, parseCompelWeights } from '../services/jobs/compel-weights.js';
import type { RouteContext } from './context.js';

export function testCompelRoutes({ services, disconnect }: RouteContext): Handlers {
  return {
    async testCompel(request, reply) {
      const { prompt, compel_weights: text = null } = request.body;
      const isEmpty = text === null || text.trim() === '';
      const parsed = isEmpty ? null : parseCompelWeights(text);
      const weights = parsed?.valid === true ? parsed.weights : [];
      const described = await services.engines.describePrompt(
        { prompt, weights, parseWeights: true },
        disconnect.of(reply),
      );
      const success = described.weightsUsed.length > 0;
      return {
        prompt,
        compel_weights: text,
        parsed_weights: weights,
        dropped_weights: [...(parsed?.valid === true ? parsed.dropped : []), ...described.weightsDropped],
        combined_prompt: [prompt, ...described.weightsUsed.map(formatWeight)].join(', '),
        token_count: described.tokenCount,
        token_limit: clipWindow,
        tensor_shapes: described.tensorShapes,
        tokens: described.tokens,
        compel_success: success,
        enhancement_strategy: success ? 'compel' : isEmpty ? 'none' : 'fallback',
        final_prompt_type: success ? 'conditioning_tensor' : 'string',
        ...(parsed?.valid === false ? { compel_error: parsed.reason } : {}),
      };
    },
  };
}
