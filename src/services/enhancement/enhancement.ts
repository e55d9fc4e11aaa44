import type { Logger } from 'pino';
import { errors } from '../../lib/errors.js';
import type { Engines } from '../engines/engines.js';
import { orAborted } from '../../lib/wait.js';
import type { EnhancePromptAnswer, EnhancePromptRequest, EnhancementService } from './enhancement-types.js';
import { createAttempt, modelNotAvailable } from './answer-prompt.js';
import { runChain, type ChainOutcome } from './chain.js';
import { createTokenCounter } from './prompt-length.js';
import type { DenyList } from './deny-list.js';
import { createResidency, createWaitingRoom } from './model-access.js';
import { readContext, type Question } from './request-text.js';
import type { SessionKey, SessionStore, Turn } from './sessions.js';
import type { Strategy, Template, Templates } from './templates.js';

export interface EnhancementLimits {
  /** For one request: waiting, loading the model, all attempts. */
  deadlineMs: number;
  /** Of each strategy. */
  maxAttempts: number;
  attemptWaitMs: number;
  /** Requests at the model together, and those that may wait for it. */
  places: number;
  maxWaiting: number;
  /** The model is unloaded after this long without a request; 0 for never. */
  idleMs: number;
  /** Share of the prompt's content words an answer must keep, 0 to 1. */
  keepWords: number;
}

export const defaultEnhancementLimits: EnhancementLimits = {
  deadlineMs: 120_000,
  maxAttempts: 2,
  attemptWaitMs: 5000,
  places: 8,
  maxWaiting: 64,
  idleMs: 300_000,
  keepWords: 1,
};

export interface EnhancementParts {
  engines: Pick<Engines, 'call' | 'describePrompt' | 'has' | 'release' | 'status' | 'whenReady'>;
  templates: Templates;
  denyList: DenyList;
  sessions: SessionStore;
  log: Logger;
  /** Why no prompt is rewritten on this instance. */
  off?: string | undefined;
  limits?: Partial<EnhancementLimits>;
}

const sources = { base: 'qwen_base', chat: 'qwen_instruct' } as const satisfies Record<Strategy, string>;

/** Why a chat was none. */
export const withoutSession = 'A conversation needs a session_id';

class DeadlinePassed extends Error {}

/**
 * Better prompts from the Qwen engine: chat, else base, else the original with the reason (spec section 7).
 */
export function createEnhancement({
  engines,
  templates,
  denyList,
  sessions,
  log,
  off,
  limits: given = {},
}: EnhancementParts) {
  const limits = { ...defaultEnhancementLimits, ...given };
  const waitingRoom = createWaitingRoom(limits);
  const residency = createResidency({ engines, log, idleMs: limits.idleMs });
  const tryOnce = createAttempt({
    engines,
    denyList,
    countTokens: createTokenCounter(engines),
    keepWords: limits.keepWords,
  });

  async function enhance(request: EnhancePromptRequest, signal: AbortSignal): Promise<EnhancePromptAnswer> {
    const startedMs = performance.now();
    refuseDenied(request);
    const plan = planOf(request, templates);
    if (!engines.has('qwen')) return { success: false, reason: off ?? modelNotAvailable };
    return within(limits.deadlineMs, signal, async (inTime) => {
      const leave = await waitingRoom.enter(inTime, { patient: request.patient === true });
      try {
        return await residency.during(() => answer(request, plan, inTime, startedMs));
      } finally {
        leave();
      }
    });
  }

  function refuseDenied({ prompt, conversationContext }: EnhancePromptRequest): void {
    const denial = denyList.check(prompt, conversationContext);
    if (denial === null) return;
    log.info({ rule: denial.kind, line: denial.line }, 'prompt on the deny list');
    throw errors.promptRejected();
  }

  async function answer(
    request: EnhancePromptRequest,
    { strategies, template: named, fallback: planned, session }: Plan,
    signal: AbortSignal,
    startedMs: number,
  ): Promise<EnhancePromptAnswer> {
    const { prompt, maxTokens, temperature, seed } = request;
    const { told, context } = readContext(request.conversationContext);
    const target = request.target ?? named?.target ?? 'image';
    const known = session === undefined ? [] : await readTurns(session, signal);
    const isKnown = (turn: Turn) =>
      known.some(({ prompt: asked, answer }) => asked === turn.prompt && answer === turn.answer);
    const turns = [...known, ...told.filter((turn) => !isKnown(turn))];
    const question: Question = { prompt, target, context, turns, told, maxTokens, temperature, seed };
    const templateOf = (strategy: Strategy): Template =>
      named?.strategy === strategy ? named : templates.standard(strategy, target);
    let shown = false;

    const outcome: ChainOutcome = await runChain({
      strategies,
      maxAttempts: limits.maxAttempts,
      waitMs: limits.attemptWaitMs,
      signal,
      attempt: (strategy, attempt) =>
        tryOnce({
          question,
          template: templateOf(strategy),
          attempt,
          fit: request.target === 'image' && request.fitWindow !== false,
          signal,
          onToken:
            request.onToken === undefined
              ? undefined
              : (text) => {
                  shown = true;
                  request.onToken?.(text);
                },
        }),
      onFailure({ strategy, attempt, reason, cause }) {
        log.warn(
          { strategy, attempt, reason, ...(cause === undefined ? {} : { err: cause }) },
          'no enhanced prompt',
        );
        if (shown) request.onDiscard?.(reason);
        shown = false;
      },
    });
    if (!outcome.ok) return { success: false, reason: outcome.reason };

    if (session !== undefined) await remember(session, { prompt, answer: outcome.text });
    const { strategy, text, result, attempts, failures } = outcome;
    const fallback = planned ?? (strategy === strategies[0] ? undefined : failures.at(-1));
    return {
      success: true,
      enhancedPrompt: text,
      source: sources[strategy],
      model: result.model,
      template: templateOf(strategy).name,
      seconds: (performance.now() - startedMs) / 1000,
      promptTokens: result.promptTokens,
      completionTokens: result.completionTokens,
      attempts,
      fallback: fallback !== undefined,
      ...(fallback === undefined ? {} : { fallbackReason: fallback }),
    };
  }

  /** A conversation whose memory cannot be reached goes on without it: half an answer now beats none. */
  async function readTurns(session: SessionKey, signal: AbortSignal): Promise<Turn[]> {
    try {
      return await orAborted(sessions.read(session), signal);
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ err: error }, 'conversation not read');
      return [];
    }
  }

  async function remember(session: SessionKey, turn: Turn): Promise<void> {
    await sessions
      .append(session, turn)
      .catch((error: unknown) => log.warn({ err: error }, 'conversation not kept'));
  }

  const service: EnhancementService = {
    enhance,
    forgetSession: (owner, id) => sessions.forget({ owner, id }),
    templates: () =>
      templates.list.map(({ name, strategy, target, version }) => ({ name, strategy, target, version })),
    preload: () => residency.preload(),
  };
  return {
    ...service,
    /** Requests at the model and in line. */
    load: () => ({ busy: waitingRoom.busy(), waiting: waitingRoom.waiting() }),
    async stop(): Promise<void> {
      residency.stop();
      await sessions.close();
    },
  };
}

interface Plan {
  strategies: Strategy[];
  /** Named by the request. */
  template: Template | undefined;
  /** Why not the strategy that was asked for. */
  fallback: string | undefined;
  /** Set when there is a conversation to go on with. */
  session: SessionKey | undefined;
}

/** Spec section 7: no model means base, chat without a session means base, chat falls back to base. */
function planOf(
  { model, template: name, sessionId, owner = '', target }: EnhancePromptRequest,
  templates: Templates,
): Plan {
  const template = name === undefined ? undefined : templates.get(name);
  const refuse = (rule: string, message: string) =>
    errors.invalidParameters.with({ details: [{ field: 'template', rule, message }] }, message);
  if (name !== undefined && template === undefined)
    throw refuse('enum', `template must be one of ${templates.list.map((each) => each.name).join(', ')}`);
  if (template !== undefined && target !== undefined && template.target !== target)
    throw refuse('target', `template ${template.name} is for target ${template.target}`);
  const asked: Strategy = template?.strategy ?? (model === 'qwen_instruct' ? 'chat' : 'base');
  if (template !== undefined && model !== undefined && sources[asked] !== model)
    throw refuse('model', `template ${template.name} is for model ${sources[asked]}`);
  if (asked === 'base') return { strategies: ['base'], template, fallback: undefined, session: undefined };
  if (sessionId === undefined)
    return { strategies: ['base'], template, fallback: withoutSession, session: undefined };
  return { strategies: ['chat', 'base'], template, fallback: undefined, session: { owner, id: sessionId } };
}

/**
 * Runs `work` with a signal that ends with the caller's or with the deadline, which is an answer and no
 * error.
 */
async function within(
  deadlineMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<EnhancePromptAnswer>,
): Promise<EnhancePromptAnswer> {
  const limited = new AbortController();
  const onAbort = () => limited.abort(signal.reason);
  const passed = new DeadlinePassed();
  const timer = setTimeout(() => limited.abort(passed), deadlineMs);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(limited.signal);
  } catch (error) {
    if (error === passed)
      return { success: false, reason: `Timed out after ${Math.round(deadlineMs / 1000)} s` };
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}
