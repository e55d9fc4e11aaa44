import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// the collector's entry is a flag of V8; a context made after it is set has the function
setFlagsFromString('--expose-gc');

/** Frees what is unreachable now, rather than when V8 thinks it worth while: for tensors that a finished request held. */
export const collectGarbage = runInNewContext('gc') as () => void;
