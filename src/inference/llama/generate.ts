import { randomInt } from 'node:crypto';
import type { LlamaContextSequence, LlamaModel, SequenceEvaluateOptions, Token } from 'node-llama-cpp';
import type { QwenGenerateParams, QwenGenerateResult } from '../generation.js';
import { EngineFailure, throwIfCancelled, type RequestContext } from '../engine.js';
import { completionTokens, type PromptTokens } from './chat-format.js';
import { promptChunk, type TextModel } from './model.js';

/** Share of the window that is kept for the answer, whatever the prompt. */
const answerShare = 1 / 4;
/**
 * The repetition penalty looks at this many tokens of the answer; never at the prompt, whose words the answer
 * must keep.
 */
const penaltyTokens = 64;
/** Time between two reports to the watchdog. */
const reportMs = 1000;

/**
 * Answers one request on a sequence of its own, in steps shared with all other requests. Ends between two
 * tokens when it is cancelled.
 * @throws EngineFailure `invalid_parameters` when the prompt is longer than `maxInputTokens` or than the
 *   window allows
 */
export async function generate(
  text: TextModel,
  params: QwenGenerateParams,
  { signal, emit }: RequestContext,
): Promise<QwenGenerateResult> {
  const startedMs = performance.now();
  const prompt = promptOf(text, params);
  const room = Math.min(params.maxTokens, Math.floor(text.contextSize * answerShare));
  const mostInput = Math.min(params.maxInputTokens, text.contextSize - room - 1);
  const promptTokens = prompt.tokens.length;
  if (promptTokens > mostInput)
    throw new EngineFailure(
      'invalid_parameters',
      `The prompt has ${promptTokens} tokens; at most ${mostInput} are allowed`,
      'prompt',
    );
  const maxTokens = Math.min(params.maxTokens, text.contextSize - promptTokens - 1);
  const report = reporter(emit, maxTokens);

  return text.pool.use(prompt, signal, async (sequence, held, place) => {
    report(0, true);
    const last = await readPrompt(text, sequence, prompt.tokens.slice(held), signal, report);
    const writer = createWriter(
      text.model,
      params.stream ? (piece) => emit({ kind: 'token', text: piece }) : undefined,
      params.stop ?? [],
    );
    let stopReason: QwenGenerateResult['stopReason'] = 'eos';
    const answer = sequence.evaluate(
      last,
      samplingOf(params, () => writer.tokens()),
    );
    text.steps.enter();
    try {
      for (;;) {
        await text.steps.wait(place, writer.tokens().length === 0 ? last.length : 1);
        throwIfCancelled(signal);
        const next = await answer.next();
        if (next.done === true || text.model.isSpecialToken(next.value) || writer.add(next.value)) break;
        report(writer.tokens().length);
        if (writer.tokens().length >= maxTokens) {
          stopReason = 'length';
          break;
        }
      }
    } finally {
      text.steps.leave();
      await answer.return();
    }
    throwIfCancelled(signal);
    return {
      text: writer.end(),
      model: text.name,
      promptTokens,
      completionTokens: writer.tokens().length,
      stopReason,
      seconds: (performance.now() - startedMs) / 1000,
    };
  });
}

function promptOf(
  text: TextModel,
  { mode, prompt, messages, sharedLength = 0 }: QwenGenerateParams,
): PromptTokens {
  if (mode === 'completion') {
    if (prompt === undefined || prompt === '')
      throw new EngineFailure('invalid_parameters', 'There is no text to complete', 'prompt');
    return completionTokens(text.model, prompt, sharedLength);
  }
  if (messages === undefined || messages.length === 0)
    throw new EngineFailure('invalid_parameters', 'There is no message to answer', 'messages');
  if (text.formatChat === null)
    throw new EngineFailure(
      'model_missing',
      `The model ${text.name} cannot chat: it does not know the ChatML tokens`,
    );
  return text.formatChat(messages);
}

/**
 * Reads the prompt in pieces, all but the last of them here; the last one is what the first token follows
 * from.
 */
async function readPrompt(
  { pace }: TextModel,
  sequence: LlamaContextSequence,
  tokens: Token[],
  signal: AbortSignal,
  report: (tokens: number) => void,
): Promise<Token[]> {
  let at = 0;
  for (; tokens.length - at > promptChunk; at += promptChunk) {
    pace.begin(promptChunk);
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(at, at + promptChunk));
    pace.end();
    throwIfCancelled(signal);
    report(0);
  }
  return tokens.slice(at);
}

function samplingOf(
  { temperature, topP, topK, repeatPenalty, seed }: QwenGenerateParams,
  written: () => Token[],
): SequenceEvaluateOptions {
  return {
    temperature,
    topP,
    topK,
    minP: 0,
    seed: seed ?? randomInt(2 ** 32),
    ...(repeatPenalty === 1
      ? {}
      : {
          repeatPenalty: {
            penalty: repeatPenalty,
            maxPunishTokens: penaltyTokens,
            punishTokens: () => written().slice(-penaltyTokens),
          },
        }),
  };
}

/** Tokens to text. A token may end within a character; its text then waits for the next. */
function createWriter(
  model: LlamaModel,
  emit: ((piece: string) => void) | undefined,
  stop: readonly string[],
) {
  const tokens: Token[] = [];
  let waiting: Token[] = [];
  let text = '';
  const flush = () => {
    const piece = model.detokenize(waiting, false);
    waiting = [];
    text += piece;
    if (piece !== '') emit?.(piece);
  };
  return {
    tokens: () => tokens,
    /** True when the text has come to one of the stop texts. */
    add(token: Token): boolean {
      tokens.push(token);
      waiting.push(token);
      // No character has more than four bytes: what is incomplete after eight tokens will never be complete.
      if (model.detokenize(waiting, false).endsWith('\uFFFD') && waiting.length < 8) return false;
      flush();
      return stop.some((each) => text.includes(each));
    },
    end(): string {
      if (waiting.length > 0) flush();
      const at = stop.map((each) => text.indexOf(each)).filter((index) => index >= 0);
      return at.length === 0 ? text : text.slice(0, Math.min(...at));
    },
  };
}

function reporter(emit: RequestContext['emit'], steps: number) {
  let lastMs = 0;
  return (step: number, now = false) => {
    if (!now && performance.now() - lastMs < reportMs) return;
    lastMs = performance.now();
    emit({ kind: 'progress', stage: 'text', step, steps });
  };
}
