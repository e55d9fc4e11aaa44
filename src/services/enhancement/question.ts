import type { QwenGenerateParams } from '../../inference/engine-protocol.js';
import { buildMessages, mostInputTokens } from './conversation.js';
import type { Turn } from './sessions/types.js';
import { fillTemplate, placeholder, type Strategy, type Target, type Template } from './templates.js';

/** What one request asks, as all its attempts share it. */
export interface Question {
  prompt: string;
  target: Target;
  context?: string | undefined;
  /** What was said before, oldest first. */
  turns: readonly Turn[];
  maxTokens?: number | undefined;
  temperature?: number | undefined;
  seed?: number | undefined;
}

/** Cuts a question short enough for any model's window when its own count says so; each level halves the request. */
export const shortestLevel = 3;
/** Rather more than a token holds: the engine counts exactly and says when it was too much. */
const bytesPerToken = 4;
/** A base model that does not know where to end goes on with another example. */
const furtherExample = '\nOriginal prompt:';

/**
 * The request to the engine. Attempts differ in their seed, so that a reproducible request does not repeat the answer it
 * is asked again for. `level` > 0 leaves out what was said before and shortens the rest.
 */
export function buildQuestion(question: Question, template: Template, { attempt, level, stream }: { attempt: number; level: number; stream: boolean }): { params: QwenGenerateParams; turnsUsed: number } {
  const { sampling } = template;
  const common = {
    maxTokens: Math.min(question.maxTokens ?? sampling.maxTokens, sampling.maxTokens), maxInputTokens: mostInputTokens[template.strategy],
    temperature: question.temperature ?? sampling.temperature, topP: sampling.topP, topK: sampling.topK, repeatPenalty: sampling.repeatPenalty, stream,
    ...(question.seed === undefined ? {} : { seed: (question.seed + attempt - 1) % 2 ** 32 }),
  };
  const prompt = shorten(question.prompt, template, level);
  if (template.strategy === 'base') {
    return { params: { ...common, mode: 'completion', prompt: fillTemplate(template, prompt), sharedLength: template.text.indexOf(placeholder), stop: [furtherExample] }, turnsUsed: 0 };
  }
  const { messages, turnsUsed } = buildMessages({ system: template.text, turns: level > 0 ? [] : question.turns, context: level > 1 ? undefined : question.context, prompt });
  return { params: { ...common, mode: 'chat', messages }, turnsUsed };
}

/** The beginning of a prompt that is longer than the strategy's input, to the last whole word. */
function shorten(prompt: string, template: { strategy: Strategy; text: string }, level: number): string {
  const roomBytes = Math.max(200, (mostInputTokens[template.strategy] * bytesPerToken - Buffer.byteLength(template.text)) / 2 ** level);
  if (Buffer.byteLength(prompt) <= roomBytes) return prompt;
  const cut = Buffer.from(prompt).subarray(0, Math.floor(roomBytes)).toString('utf8').replace(/\uFFFD+$/, '');
  return cut.replace(/\s+\S*$/, '') || cut;
}
