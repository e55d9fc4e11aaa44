import type { Pace } from './pace.js';

interface Waiting {
  place: number;
  tokens: number;
  go: () => void;
}

/**
 * Lets all running requests ask for their next token at the same moment, so that one evaluation answers them all. Left
 * to itself the last of them to see its token misses the next evaluation: two requests would take turns instead of sharing. They go in the order of their
 * sequences, because llama.cpp evaluates together only what stands side by side.
 */
export function createStepTogether(pace: Pick<Pace, 'begin' | 'end'>) {
  let members = 0;
  let waiting: Waiting[] = [];

  function openWhenAllAreHere(): void {
    if (waiting.length < members) return;
    pace.end();
    if (waiting.length === 0) return;
    const all = waiting.sort((a, b) => a.place - b.place);
    waiting = [];
    // The evaluation that just answered must be over, or it would go on with whoever asks first.
    setImmediate(() => {
      pace.begin(all.reduce((sum, { tokens }) => sum + tokens, 0));
      for (const { go } of all) go();
    });
  }

  return {
    enter: () => { members += 1; },
    leave: () => {
      members -= 1;
      openWhenAllAreHere();
    },
    /** Resolves when every member waits here. `tokens`: how many of this member's the step evaluates. */
    wait: (place: number, tokens: number): Promise<void> => new Promise((go) => {
      waiting.push({ place, tokens, go });
      openWhenAllAreHere();
    }),
  };
}
export type StepTogether = ReturnType<typeof createStepTogether>;
