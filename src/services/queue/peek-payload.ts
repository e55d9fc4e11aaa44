export interface PayloadPeek {
  /** Empty when the payload has no id that can serve as a key. */
  id: string;
  /** As the producer wrote it, not checked against the catalogue; empty when unreadable. */
  type: string;
  userId: string;
}

const nothing: PayloadPeek = { id: '', type: '', userId: '' };
/** Ids become parts of keys and of webhook ids; the same rule stands in `redis/scripts/reserve.lua`. */
const usableId = /^[\w.:-]{1,128}$/;

/** Reads what the store needs of a payload that nobody has validated yet. Never throws. */
export function peekPayload(payload: string): PayloadPeek {
  try {
    const value: unknown = JSON.parse(payload);
    if (value === null || typeof value !== 'object') return nothing;
    const { id, type, user_id: userId } = value as Record<string, unknown>;
    return {
      id: typeof id === 'string' && usableId.test(id) ? id : '',
      type: typeof type === 'string' ? type : '',
      userId: typeof userId === 'string' ? userId : '',
    };
  } catch {
    return nothing;
  }
}
