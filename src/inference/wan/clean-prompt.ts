import { decodeHTML } from 'entities';

/**
 * A prompt as Wan reads it: HTML entities decoded twice, runs of white space one blank, trimmed; capitals stay.
 * Source: diffusers, pipeline_wan.py (basic_clean, whitespace_clean) without ftfy, which is optional there too.
 */
export function cleanPrompt(text: string): string {
  // JavaScript's \s lacks the next-line character, which Python's has
  return decodeHTML(decodeHTML(text)).replace(/[\s\u0085]+/gu, ' ').trim();
}
