import type { EngineEvent } from '../../inference/engine-protocol.js';
import type { QwenGenerateParams } from '../../inference/generation.js';
import { EngineError } from '../engines/engine-error.js';
import type { Engines } from '../engines/engines.js';
import { orAborted } from '../../lib/wait.js';
import type { AttemptOutcome } from './chain.js';
import { cleanAnswer, isUnchanged } from './clean-answer.js';
import type { DenyList } from './deny-list.js';
import { contentWords, lostWords } from './keep-words.js';
import { fitToWindow, type CountTokens } from './prompt-length.js';
import { buildQuestion, shortestLevel, type Question } from './request-text.js';
import type { Template } from './templates.js';

export const modelNotAvailable = 'Model not available';

export interface AttemptParts {
  engines: Pick<Engines, 'call'>;
  denyList: DenyList;
  countTokens: CountTokens;
  /** Share of the prompt's content words an answer must keep, 0 to 1. */
  keepWords: number;
}

export interface AttemptRequest {
  question: Question;
  template: Template;
  attempt: number;
  /** Keep the answer within CLIP's window. */
  fit: boolean;
  signal: AbortSignal;
  onToken?: ((text: string) => void) | undefined;
}

/** Asks the model once and judges the answer. Rejects only with the signal's reason. */
export function createAttempt({ engines, denyList, countTokens, keepWords }: AttemptParts) {
  /** The engine knows its own window: what it refuses as too long is asked again, shorter. */
  async function ask({ question, template, attempt, signal, onToken }: AttemptRequest) {
    // Text that is not checked yet must not reach anybody while there is a list to check it against.
    const stream = onToken !== undefined && denyList.size === 0;
    const onEvent = (event: EngineEvent) => {
      if (event.kind === 'token' && !signal.aborted) onToken?.(event.text);
    };
    for (let level = 0; ; level += 1) {
      const { params, turnsUsed } = buildQuestion(question, template, { attempt, level, stream });
      try {
        const result = await orAborted(
          engines.call('qwen', 'qwen.generate', params, { signal, ...(stream ? { onEvent } : {}) }),
          signal,
        );
        return { result, params, turnsUsed };
      } catch (error) {
        if (!(error instanceof EngineError && error.code === 'invalid_parameters') || level === shortestLevel)
          throw error;
      }
    }
  }

  return async function tryOnce(request: AttemptRequest): Promise<AttemptOutcome> {
    const { question, template, signal, fit } = request;
    let asked: Awaited<ReturnType<typeof ask>>;
    try {
      asked = await ask(request);
    } catch (error) {
      signal.throwIfAborted();
      return failureOf(error);
    }
    const { result, params, turnsUsed } = asked;
    /** The same question would get the same answer. */
    const again = (reason: string, wanted: 'wait' | 'at_once'): AttemptOutcome => ({
      ok: false,
      reason,
      then: isDeterministic(params) ? 'next_strategy' : wanted,
    });

    const text = cleanAnswer(result.text, { truncated: result.stopReason === 'length' });
    if (text === '') return again('The model gave an empty answer', 'wait');
    if (isUnchanged(text, question.prompt)) return again('The model gave the prompt back unchanged', 'wait');
    if (repeatsWhatWasTold(text, question)) return again('The model repeated the conversation', 'at_once');
    if (denyList.check(text) !== null) return again("The answer is on the operator's deny list", 'at_once');
    // A request within a conversation is an instruction ("make it night"): its words need not be in the
    // answer.
    const standsAlone = turnsUsed === 0 && (template.strategy === 'base' || question.context === undefined);
    if (standsAlone && keptShare(question.prompt, text) < keepWords)
      return again('The answer lost words of the prompt', 'at_once');
    if (!fit) return accept(text);
    const fitted = await fitToWindow(text, question.prompt, countTokens, signal);
    if (fitted.fits)
      return isUnchanged(fitted.text, question.prompt)
        ? again('The prompt leaves no room for detail within 77 tokens', 'at_once')
        : accept(fitted.text);
    if (fitted.hopeless)
      return { ok: false, reason: 'The prompt alone is longer than 77 tokens', then: 'stop' };
    return again('The answer does not fit into 77 tokens', 'at_once');

    function accept(final: string): AttemptOutcome {
      if (request.onToken !== undefined && !params.stream) request.onToken(final);
      return { ok: true, text: final, result };
    }
  };
}

/** "Thanks, keep it", "the same again": the answer that was told is the one that is wanted. */
const asksAgain = new RegExp(
  [
    '^(?:(?:thanks|thank you|please|ok(?:ay)?|yes|good)[,.!\\s]+)*',
    '(?:(?:repeat|keep|leave)\\s+(?:it|this|that)(?:\\s+as it is)?',
    '|(?:(?:do|draw|show|make)\\s+)?(?:it\\s+|that\\s+|the same(?:\\s+one)?\\s*)?(?:once more|again)',
    '|the same(?:\\s+one)?)',
    '[,.!\\s]*(?:please|thanks)?[.!?]*$',
  ].join(''),
  'i',
);

/** What a caller told of the conversation is no answer to what it asks now. */
function repeatsWhatWasTold(text: string, { prompt, told = [] }: Question): boolean {
  if (told.length === 0) return false;
  const asksForIt = asksAgain.test(prompt.trim()) || told.some((turn) => isUnchanged(turn.prompt, prompt));
  const label = /previous prompt:/i;
  return (
    (label.test(text) && !label.test(prompt)) ||
    (!asksForIt && told.some(({ answer }) => isUnchanged(text, answer)))
  );
}

function keptShare(prompt: string, answer: string): number {
  const words = contentWords(prompt).length;
  return words === 0 ? 1 : 1 - lostWords(prompt, answer).length / words;
}

function isDeterministic({ temperature, topK }: QwenGenerateParams): boolean {
  return temperature === 0 || topK === 1;
}

/** What time may heal is worth another attempt; a model that is not there is not. */
function failureOf(error: unknown): AttemptOutcome {
  const code = error instanceof EngineError ? error.code : 'engine_failed';
  switch (code) {
    case 'engine_unavailable':
    case 'model_missing':
    case 'model_invalid':
    case 'not_loaded':
      return { ok: false, cause: error, reason: modelNotAvailable, then: 'next_strategy' };
    case 'invalid_parameters':
      return {
        ok: false,
        cause: error,
        reason: 'The prompt is too long for the model',
        then: 'next_strategy',
      };
    case 'out_of_memory':
      return { ok: false, cause: error, reason: 'Insufficient VRAM', then: 'wait' };
    case 'engine_died':
    case 'device_lost':
      return { ok: false, cause: error, reason: "The model's process ended", then: 'wait' };
    default:
      return { ok: false, cause: error, reason: 'The model failed', then: 'wait' };
  }
}
