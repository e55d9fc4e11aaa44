import type { LlamaModel, Token } from 'node-llama-cpp';
import type { QwenGenerateParams } from '../generation.js';

type Messages = NonNullable<QwenGenerateParams['messages']>;

/**
 * A prompt as the model reads it. The first `shared` tokens are the operator's text, the same for every user.
 */
export interface PromptTokens {
  tokens: Token[];
  shared: number;
}

/**
 * ChatML, the template of Qwen2.5: `<|im_start|>role\ntext<|im_end|>\n` for each message, then the beginning
 * of the answer. No token stands before the first message. The marks are tokens of their own; the same
 * characters inside a user's text are read as plain text and open no message.
 * @returns null when the model does not know the marks
 */
export function createChatFormat(model: LlamaModel): ((messages: Messages) => PromptTokens) | null {
  const start = markOf(model, '<|im_start|>');
  const end = markOf(model, '<|im_end|>');
  if (start === null || end === null) return null;
  const plain = (text: string) => model.tokenize(text, false);
  const newLine = plain('\n');
  const messageTokens = ({ role, content }: Messages[number]) => [
    start,
    ...plain(`${role}\n${content}`),
    end,
    ...newLine,
  ];

  return (messages) => {
    const parts = messages.map(messageTokens);
    const shared = messages[0]?.role === 'system' ? (parts[0]?.length ?? 0) : 0;
    return { tokens: [...parts.flat(), start, ...plain('assistant\n')], shared };
  };
}

function markOf(model: LlamaModel, text: string): Token | null {
  const tokens = model.tokenize(text, true);
  return tokens.length === 1 && model.isSpecialToken(tokens[0]) ? (tokens[0] as Token) : null;
}

/**
 * The text as it is. The tokens that `prompt` has in common with its template's beginning hold nothing of the
 * user's.
 */
export function completionTokens(model: LlamaModel, prompt: string, sharedLength: number): PromptTokens {
  const tokens = model.tokenize(prompt, false);
  const shared = commonLength(tokens, model.tokenize(prompt.slice(0, sharedLength), false));
  const { bos, shouldPrependBosToken } = model.tokens;
  return shouldPrependBosToken && bos !== null
    ? { tokens: [bos, ...tokens], shared: shared + 1 }
    : { tokens, shared };
}

export function commonLength(one: readonly Token[], other: readonly Token[]): number {
  let length = 0;
  while (length < one.length && length < other.length && one[length] === other[length]) length += 1;
  return length;
}
