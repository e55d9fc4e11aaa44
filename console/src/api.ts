import { ConnectionError, createClient, type Job, OurVidzError } from '../../client/index.js';
import type { components } from '../../src/contract/generated.js';
import { createCell } from './cell.js';

export type Schemas = components['schemas'];
type Session = Schemas['Session'];
export type Capabilities = Schemas['Capabilities'];
export type { Job };
export { isOver, OurVidzError } from '../../client/index.js';

/** undefined: not known yet; null: nobody is signed in. */
export const session = createCell<Session | null | undefined>(undefined);
/** Why the last request got no answer; null while the service answers. */
export const unreachable = createCell<string | null>(null);

/** Owner of what somebody with a key draws here: the same as of the command line's jobs. */
const localUserId = '00000000-0000-4000-8000-000000000001';
export const ownUserId = () => session.get()?.user_id ?? localUserId;
export const may = (scope: Session['scopes'][number]) => session.get()?.scopes.includes(scope) === true;

/** The service this page came from; who asks is in the cookie. */
export const api = createClient({
  url: location.origin,
  fetch: async (input, init) => {
    const headers = new Headers(init?.headers);
    const csrf = session.get()?.csrf_token;
    if (csrf) headers.set('x-csrf-token', csrf);
    try {
      const response = await fetch(input, { ...init, headers });
      unreachable.set(null);
      if (response.status === 401 && session.get()) signedOut('You were signed out. Sign in again.');
      return response;
    } catch (error) {
      if (init?.signal?.aborted !== true) unreachable.set('The service does not answer.');
      throw error;
    }
  },
});

export const farewell = createCell('');
const wasSignedIn = 'ourvidz.signed-in';

function signedOut(why: string): void {
  localStorage.removeItem(wasSignedIn);
  farewell.set(why);
  session.set(null);
}

/** Who is signed in, if this browser was; with the code of a link, who made the link. */
export async function resume(): Promise<void> {
  const { login: code } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  // Whatever becomes of it: a code is never left in the address.
  if (code !== undefined) history.replaceState(null, '', location.pathname);
  if (code !== undefined && (await signIn(code).catch(() => null)) !== null) return;
  if (code !== undefined)
    return signedOut(
      'This link was used before, or its time is over. Ask for another one, or paste the key.',
    );
  if (localStorage.getItem(wasSignedIn) === null) return session.set(null);
  try {
    session.set(await api.getSession());
  } catch (error) {
    if (error instanceof OurVidzError) signedOut('');
    else throw error;
  }
}

/** @throws OurVidzError of 401 for a key that nobody has */
export async function signIn(key: string): Promise<Session> {
  const signedIn = await createClient({ url: location.origin, key }).createSession();
  localStorage.setItem(wasSignedIn, 'yes');
  farewell.set('');
  session.set(signedIn);
  return signedIn;
}

export async function signOut(): Promise<void> {
  await api.deleteSession();
  signedOut('You are signed out.');
}

/** What a screen has to tell about an error; that the service does not answer is told above all of them. */
export const problemOf = (error: unknown): string | null =>
  error instanceof ConnectionError ? null : reason(error);

/** What to tell about an error, in the service's own words where it has some. */
export function reason(error: unknown): string {
  if (error instanceof ConnectionError) return 'The service does not answer.';
  return error instanceof Error ? error.message : String(error);
}
