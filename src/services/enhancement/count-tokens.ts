import type { Engines } from '../engines/engine-service.js';
import type { CountTokens } from './length-fit.js';

/** A picture that is being drawn comes first: a count that is not here by then is estimated. */
const defaultPatienceMs = 2000;

/** CLIP's own count from the SDXL engine, while that one can answer. */
export function createTokenCounter(engines: Pick<Engines, 'has' | 'status' | 'describePrompt'>, { patienceMs = defaultPatienceMs } = {}): CountTokens {
  /** A count that came too late is not called off (a cancelled request that cannot end costs the engine its process) but nobody else queues behind it. */
  let late = 0;

  return async function countTokens(prompt) {
    if (late > 0 || !engines.has('sdxl') || !['ready', 'busy'].includes(engines.status('sdxl').state)) return null;
    const counted = engines.describePrompt({ prompt, weights: [], parseWeights: false }, new AbortController().signal).then(({ tokenCount }) => tokenCount, () => null);
    let timer: NodeJS.Timeout | undefined;
    const outOfPatience = new Promise<'late'>((resolve) => { timer = setTimeout(() => resolve('late'), patienceMs); });
    const first = await Promise.race([counted, outOfPatience]);
    clearTimeout(timer);
    if (first !== 'late') return first;
    late += 1;
    void counted.then(() => { late -= 1; });
    return null;
  };
}
