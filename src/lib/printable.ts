/**
 * What steers a terminal instead of being shown: C0 and C1 controls (ESC among them) but line break and tab,
 * marks that reorder text, and the separators that some terminals break lines at.
 */
const steering = /(?![\n\t])[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu;

/** Text that a terminal shows and does not obey. Inside JSON the value stays the same. */
export function printable(text: string): string {
  return text.replace(steering, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The same on one line: what comes from elsewhere cannot pass for a line of our own. */
export function oneLine(text: string): string {
  return printable(text.replace(/[\s\u0085]+/g, ' '));
}
