import type { LlamaContextSequence, Token } from 'node-llama-cpp';
import { cancelled, EngineFailure } from '../engine.js';
import { commonLength, type PromptTokens } from './chat-format.js';

interface Slot {
  sequence: LlamaContextSequence;
  place: number;
}

/**
 * The places at the model. A request has one to itself; between two requests a sequence holds nothing but the
 * shared beginning (the system prompt) of the last one, so that one user's text can never reach another's
 * answer and the beginning need not be read again.
 */
export function createSequencePool(sequences: readonly LlamaContextSequence[]) {
  const idle: Slot[] = sequences.map((sequence, place) => ({ sequence, place }));
  const line: Array<() => void> = [];
  /** Idle ones that were given to somebody in line who has not taken them yet. */
  let promised = 0;

  /**
   * Waits for a sequence; the one that holds most of the prompt's beginning, of equals the first: sequences
   * side by side are evaluated together.
   */
  async function take(tokens: readonly Token[], signal: AbortSignal): Promise<Slot> {
    if (signal.aborted) throw cancelled();
    if (idle.length === promised) await turn(signal);
    const held = (slot: Slot) => commonLength(slot.sequence.contextTokens, tokens);
    const best = idle.reduce((one, other) => {
      const [a, b] = [held(one), held(other)];
      return b > a || (b === a && other.place < one.place) ? other : one;
    });
    idle.splice(idle.indexOf(best), 1);
    return best;
  }

  async function turn(signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        signal.removeEventListener('abort', leave);
        promised += 1;
        resolve();
      };
      const leave = () => {
        line.splice(line.indexOf(enter), 1);
        reject(cancelled());
      };
      line.push(enter);
      signal.addEventListener('abort', leave, { once: true });
    });
    promised -= 1;
  }

  async function give(slot: Slot, keep: number): Promise<void> {
    try {
      await forget(slot.sequence, keep);
    } catch (error) {
      throw new EngineFailure(
        'device_lost',
        'The text of an earlier request could not be removed from the model',
        undefined,
        { cause: error },
      );
    }
    idle.push(slot);
    line.shift()?.();
  }

  return {
    /**
     * Runs `work` on a sequence that holds the first `held` tokens of the prompt and nothing else; at least
     * one is left to evaluate. What was evaluated beyond the shared tokens is erased before anybody else gets
     * the sequence.
     */
    async use<T>(
      { tokens, shared }: PromptTokens,
      signal: AbortSignal,
      work: (sequence: LlamaContextSequence, held: number, place: number) => Promise<T>,
    ): Promise<T> {
      const slot = await take(tokens, signal);
      let keep = 0;
      try {
        const held = Math.min(commonLength(slot.sequence.contextTokens, tokens), tokens.length - 1);
        await forget(slot.sequence, held);
        const result = await work(slot.sequence, held, slot.place);
        keep = shared;
        return result;
      } catch (error) {
        // A request that ended between two steps leaves a sound state; after anything else nothing of it is
        // trusted.
        if (signal.aborted) keep = shared;
        throw error;
      } finally {
        await give(slot, keep);
      }
    },
    busy: () => sequences.length - idle.length,
    size: sequences.length,
  };
}
/** Erases the cells of all tokens from `keep` on. */
async function forget(sequence: LlamaContextSequence, keep: number): Promise<void> {
  const { nextTokenIndex } = sequence;
  if (nextTokenIndex > keep) await sequence.eraseContextTokenRanges([{ start: keep, end: nextTokenIndex }]);
}
