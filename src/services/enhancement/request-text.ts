import type { Turn } from './sessions.js';
import { fillTemplate, placeholder, type Strategy, type Target, type Template } from './templates.js';
import type { QwenGenerateParams } from '../../inference/generation.js';

/** What one request asks, as all its attempts share it. */
export interface Question {
  prompt: string;
  target: Target;
  context?: string | undefined;
  /** What was said before, oldest first. */
  turns: readonly Turn[];
  /** Those of them that the context told: none of their answers is one to this question. */
  told?: readonly Turn[];
  maxTokens?: number | undefined;
  temperature?: number | undefined;
  seed?: number | undefined;
}

/**
 * Cuts a question short enough for any model's window when its own count says so; each level halves the
 * request.
 */
export const shortestLevel = 3;
/** Rather more than a token holds: the engine counts exactly and says when it was too much. */
const mostBytesPerToken = 4;
/** A base model that does not know where to end goes on with another example. */
const furtherExample = '\nOriginal prompt:';

/**
 * The request to the engine. Attempts differ in their seed, so that a reproducible request does not repeat
 * the answer it is asked again for. `level` > 0 leaves out what was said before and shortens the rest.
 */
export function buildQuestion(
  question: Question,
  template: Template,
  { attempt, level, stream }: { attempt: number; level: number; stream: boolean },
): { params: QwenGenerateParams; turnsUsed: number } {
  const { sampling } = template;
  const common = {
    maxTokens: Math.min(question.maxTokens ?? sampling.maxTokens, sampling.maxTokens),
    maxInputTokens: mostInputTokens[template.strategy],
    temperature: question.temperature ?? sampling.temperature,
    topP: sampling.topP,
    topK: sampling.topK,
    repeatPenalty: sampling.repeatPenalty,
    stream,
    ...(question.seed === undefined ? {} : { seed: (question.seed + attempt - 1) % 2 ** 32 }),
  };
  const prompt = shorten(question.prompt, template, level);
  if (template.strategy === 'base') {
    return {
      params: {
        ...common,
        mode: 'completion',
        prompt: fillTemplate(template, prompt),
        sharedLength: template.text.indexOf(placeholder),
        stop: [furtherExample],
      },
      turnsUsed: 0,
    };
  }
  const { messages, turnsUsed } = buildMessages({
    system: template.text,
    turns: level > 0 ? [] : question.turns,
    context: level > 1 ? undefined : question.context,
    prompt,
  });
  return { params: { ...common, mode: 'chat', messages }, turnsUsed };
}

/** `Previous prompt: 'a cat' → Enhanced: 'a cat in soft light'`; its end may have been cut off. */
const toldExchange = new RegExp(
  [
    String.raw`previous prompt:\s*['"‘“](.+?)['"’”]\s*(?:(?:→|->|=>)\s*)?enhanced(?: prompt)?:\s*['"‘“]`,
    String.raw`(?:(.+?)['"’”](?=\s*(?:$|[\n;|.,]|previous prompt:))|(.+)$)`,
  ].join(''),
  'gisu',
);

/** Takes the exchanges out of a context that callers write them into; what is left of it stays a context. */
export function readContext(context: string | undefined): { told: Turn[]; context: string | undefined } {
  const told: Turn[] = [];
  const rest = context
    ?.replaceAll(toldExchange, (_all, prompt: string, answer: string | undefined, cutAnswer: string) => {
      told.push({ prompt, answer: answer ?? cutAnswer });
      return ' ';
    })
    .replace(/^[\s;|.,]+|[\s;|,]+$/g, '');
  return { told, context: rest === '' ? undefined : rest };
}

/** The beginning of a prompt that is longer than the strategy's input, to the last whole word. */
function shorten(prompt: string, template: { strategy: Strategy; text: string }, level: number): string {
  const roomBytes = Math.max(
    200,
    (mostInputTokens[template.strategy] * mostBytesPerToken - Buffer.byteLength(template.text)) / 2 ** level,
  );
  if (Buffer.byteLength(prompt) <= roomBytes) return prompt;
  const cut = Buffer.from(prompt)
    .subarray(0, Math.floor(roomBytes))
    .toString('utf8')
    .replace(/\uFFFD+$/, '');
  return cut.replace(/\s+\S*$/, '') || cut;
}

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
 * The messages of a chat: system prompt, what was said, the context right before the request it is about, the
 * request. What was said is cut from its beginning to what fits; system prompt, context and request are
 * always whole.
 */
export function buildMessages(
  { system, turns, context, prompt }: ConversationParts,
  limitTokens: number = mostInputTokens.chat,
): { messages: Message[]; turnsUsed: number } {
  const first: Message[] = [{ role: 'system', content: system }];
  const last: Message[] = [
    ...(context === undefined || context.trim() === ''
      ? []
      : [{ role: 'user' as const, content: `Context: ${context}` }]),
    { role: 'user', content: prompt },
  ];
  let room = limitTokens - estimateInput([...first, ...last]);
  const kept: Message[] = [];
  let turnsUsed = 0;
  for (const { prompt: asked, answer } of turns.toReversed()) {
    const turn: Message[] = [
      { role: 'user', content: asked },
      { role: 'assistant', content: answer },
    ];
    room -= estimateInput(turn);
    if (room < 0) break;
    kept.unshift(...turn);
    turnsUsed += 1;
  }
  return { messages: [...first, ...kept, ...last], turnsUsed };
}

/** Tokens of a message besides its text: its role and its two marks. */
const messageOverhead = 6;
/**
 * Qwen's own vocabulary takes four bytes a token in English and three in most other scripts; small
 * vocabularies take fewer.
 */
const bytesPerToken = 2.5;

function estimateInput(messages: readonly Message[]): number {
  return messages.reduce(
    (sum, { content }) => sum + messageOverhead + Math.ceil(Buffer.byteLength(content) / bytesPerToken),
    0,
  );
}
