import { decodeHTML } from 'entities';

/**
 * A prompt as Wan reads it: curly quotes straight, HTML entities decoded twice, runs of white space one blank, trimmed;
 * capitals stay. Source: diffusers, pipeline_wan.py (basic_clean, whitespace_clean). Of ftfy.fix_text, which runs first
 * there, only the quotes are done here: ligatures, wide letters and control characters are the tokenizer's to fold, and
 * text decoded with the wrong character set is not repaired.
 */
export function cleanPrompt(text: string): string {
  const straight = text.replace(/[\u02bc\u2018-\u201b]/gu, '\'').replace(/[\u201c-\u201f]/gu, '"');
  // JavaScript's \s lacks the next-line character, which Python's has
  return decodeHTML(decodeHTML(straight)).replace(/[\s\u0085]+/gu, ' ').trim();
}
