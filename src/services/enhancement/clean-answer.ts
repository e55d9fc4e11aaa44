/**
 * What is left of a model's answer when everything that is no prompt is gone: the label, politeness before
 * and after it, quotes, Markdown, lists, a further example a base model began, and a last sentence that was
 * cut off.
 */
export function cleanAnswer(answer: string, { truncated }: { truncated: boolean }): string {
  let text = answer
    .normalize('NFC')
    .replace(/<\|[a-z_]+\|>/g, ' ')
    .replaceAll('\r\n', '\n')
    .replace(/[\p{Cc}]/gu, (control) => (control === '\n' || control === '\t' ? control : ' '));
  text = unfence(text).trim();
  text = withoutPreamble(text);
  const furtherExample = text.search(
    /\n\s*(?:original prompt|enhanced detailed prompt|user|assistant|human|system)\s*:/i,
  );
  const ended = furtherExample >= 0;
  if (ended) text = text.slice(0, furtherExample);
  const kept = withoutEpilogue(text.split(/\n\s*\n/));
  text = onOneLine(kept.text);
  text = unquote(text);
  if (truncated && !ended && !kept.shortened) text = withoutCutSentence(text);
  return text;
}

/** The same words in the same order: what the model gave back is what it was given. */
export function isUnchanged(answer: string, prompt: string): boolean {
  return bare(answer) === bare(prompt);
}

function bare(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\p{P}\p{Z}\s]+/gu, ' ')
    .trim();
}

function unfence(text: string): string {
  const fenced = /```[a-z]*\n?([\s\S]*?)(?:```|$)/i.exec(text);
  return fenced?.[1] !== undefined && fenced[1].trim() !== '' ? fenced[1] : text;
}

const either = (...forms: string[]) => `(?:${forms.join('|')})`;
const pattern = (...parts: string[]) => new RegExp(parts.join(''), 'i');
const aPrompt = either('prompt', 'version', 'description', 'rewrite', 'expansion');

/** "**Enhanced prompt:**" */
const label = pattern(
  '^[\\s*_#"\'“]*',
  `(?:${either('enhanced', 'detailed', 'improved', 'expanded', 'rewritten', 'final')}\\s+){0,3}`,
  either('prompt', 'description', 'version', 'answer', 'output'),
  '[*_]*\\s*:[*_\\s]*',
);
const offered = ['prompt', 'version', 'description', 'request', 'rewrite', 'it is', 'you go'];
/** "Sure, here is …:" up to its colon or line end, and the bare interjection before a sentence. */
const courtesy = pattern(
  '^',
  either(
    'sure(?: thing)?',
    'certainly',
    'of course',
    'absolutely',
    'okay',
    'ok',
    'great',
    'got it',
    'no problem',
  ),
  '\\b',
  either(`(?=[,!.:\\s])[^\\n:]{0,160}?${either(...offered)}[^\\n:]{0,60}:`, '[!.,:]', '(?=\\n)'),
  '\\s*',
);
const announcement = pattern(
  '^',
  either("here(?:'s| is| are|’s)", 'this is', 'below is', 'the following is'),
  `\\b[^\\n:]{0,80}\\b${aPrompt}\\b[^\\n:]{0,80}:\\s*`,
);

function withoutPreamble(text: string): string {
  let rest = text;
  for (let before = ''; before !== rest;) {
    before = rest;
    for (const opening of [courtesy, announcement, label]) {
      const shorter = rest.replace(opening, '').trim();
      if (shorter !== '') rest = shorter;
    }
  }
  // A label with nothing after it is no answer.
  return label.test(rest) && rest.replace(label, '').trim() === '' ? '' : rest;
}

const epilogue = pattern(
  '^',
  either(
    '[*_([]*note\\b',
    'let me know',
    'i hope',
    'hope this',
    'feel free',
    'would you like',
    'do you want',
    'please let',
    "if you(?:'d| would| want| need)",
    'this (?:enhanced |detailed |new )?(?:prompt|version|description)\\b',
    'explanation\\b',
  ),
);

function withoutEpilogue(paragraphs: string[]): { text: string; shortened: boolean } {
  const end = paragraphs.findIndex((paragraph, index) => index > 0 && epilogue.test(paragraph.trim()));
  return { text: (end < 0 ? paragraphs : paragraphs.slice(0, end)).join('\n'), shortened: end >= 0 };
}

/** List items and lines become clauses of one line; marks of Markdown go, what they marked stays. */
function onOneLine(text: string): string {
  const lines = text
    .split('\n')
    .map((line) =>
      line
        .replace(/^\s*(?:[-*•+]\s+|\d{1,2}[.)]\s+|#{1,6}\s+|>\s+)/, '')
        .replace(/(\*\*|__)(.+?)\1/g, '$2')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .filter((line) => line !== '' && !/^[-*_=]{3,}$/.test(line));
  return lines
    .reduce(
      (joined, line) =>
        joined === '' ? line : `${joined}${/[.,;:!?。，；：！？]$/.test(joined) ? '' : ','} ${line}`,
      '',
    )
    .trim();
}

const quotes: Array<readonly [open: string, close: string]> = [
  ['"', '"'],
  ['“', '”'],
  ['„', '“'],
  ['«', '»'],
  ['‘', '’'],
  ["'", "'"],
  ['`', '`'],
];

function unquote(text: string): string {
  for (const [open, close] of quotes) {
    if (text.length < open.length + close.length || !text.startsWith(open)) continue;
    const inner = text.slice(open.length, text.endsWith(close) ? -close.length : undefined);
    // Quotes around a part of the text belong to it; a lone opening one is the trace of an answer that was
    // cut.
    if (!inner.includes(open) && !inner.includes(close)) return inner.trim();
  }
  return text;
}

const shareToKeep = 0.5;

/** Back to the last sentence, else the last clause, as long as half of the text remains. */
function withoutCutSentence(text: string): string {
  if (/[.!?。！？]["'”’)]?$/.test(text)) return text;
  for (const end of [/^[\s\S]*(?:[.!?]["'”’)]?(?=\s|$)|[。！？])/, /^[\s\S]*(?=[,;，；])/]) {
    const kept = end.exec(text)?.[0].trim() ?? '';
    if (kept.length >= text.length * shareToKeep) return kept;
  }
  return text;
}
