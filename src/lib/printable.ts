/**
 * What steers a terminal instead of being shown: C0 and C1 controls (ESC among them) but line break and tab,
 * marks that reorder text, and the separators that some terminals break lines at.
 */
const steering = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

/** User and password of an address: `redis://default:secret@host` is shown as `redis://***@host`. */
const credentials = /(?<=:\/\/)[^\s/?#"'<>\\]*@/g;

export const withoutCredentials = (text: string) => text.replace(credentials, '***@');

/**
 * Text that a terminal shows and does not obey, and that tells nobody the password in an address. Inside JSON
 * every other value stays the same.
 */
export function printable(text: string): string {
  return withoutCredentials(text).replace(
    steering,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The same on one line: what comes from elsewhere cannot pass for a line of our own. */
export function oneLine(text: string): string {
  return printable(text.replace(/[\s\u0085]+/g, ' '));
}
