import type { QwenGenerateParams } from '../../inference/engine-protocol.js';
import type { Turn } from './sessions/types.js';

export type Message = NonNullable<QwenGenerateParams['messages']>[number];

/** Input limits of the two strategies, tokens. */
export const mostInputTokens = { base: 1024, chat: 2048 } as const;

export interface ConversationParts {
  system: string;
  /** Oldest first. */
  turns: readonly Turn[];
  context?: string | undefined;
  prompt: string;
}

/**
 * The messages of a chat: system prompt, what was said, the context right before the request it is about, the request.
 * What was said is cut from its beginning to what fits; system prompt, context and request are always whole.
 */
export function buildMessages({ system, turns, context, prompt }: ConversationParts, limitTokens: number = mostInputTokens.chat): { messages: Message[]; turnsUsed: number } {
  const first: Message[] = [{ role: 'system', content: system }];
  const last: Message[] = [...(context === undefined || context.trim() === '' ? [] : [{ role: 'user' as const, content: `Context: ${context}` }]), { role: 'user', content: prompt }];
  let room = limitTokens - estimateInput([...first, ...last]);
  const kept: Message[] = [];
  let turnsUsed = 0;
  for (const { prompt: asked, answer } of turns.toReversed()) {
    const turn: Message[] = [{ role: 'user', content: asked }, { role: 'assistant', content: answer }];
    room -= estimateInput(turn);
    if (room < 0) break;
    kept.unshift(...turn);
    turnsUsed += 1;
  }
  return { messages: [...first, ...kept, ...last], turnsUsed };
}

/** Tokens of a message besides its text: its role and its two marks. */
const messageOverhead = 6;
/** Qwen's own vocabulary takes four bytes a token in English and three in most other scripts; small vocabularies take fewer. */
const bytesPerToken = 2.5;

function estimateInput(messages: readonly Message[]): number {
  return messages.reduce((sum, { content }) => sum + messageOverhead + Math.ceil(Buffer.byteLength(content) / bytesPerToken), 0);
}
