import { formatFields, shorten } from './output.js';

interface Token { token: string; weight?: number }

/** `metadata.explain` of a job for people: one line a subject; empty when the job was not asked to explain itself. */
export function formatExplanation(explain: unknown): string {
  if (typeof explain !== 'object' || explain === null) return '';
  const { tokens, negative_tokens: negative, timesteps, sigmas, timings, text_cache: cache, ...rest } = explain as Record<string, unknown>;
  return formatFields({
    tokens: formatTokens(tokens), ...(Array.isArray(negative) && negative.length > 0 ? { negative_tokens: formatTokens(negative) } : {}),
    timesteps: formatNumbers(timesteps, 0), sigmas: formatNumbers(sigmas, 3), seconds: formatRecord(timings, (value) => value.toFixed(3)), text_cache: formatRecord(cache, String), ...rest,
  });
}

/** Words as the tokenizer cut them, with their weights where they have one: `a red·1.3 circle`. */
function formatTokens(tokens: unknown): string | undefined {
  if (!Array.isArray(tokens)) return undefined;
  return (tokens as Token[]).map(({ token, weight }) => (weight === undefined || weight === 1 ? token : `${token}·${Number(weight.toFixed(3))}`)).join(' ');
}

function formatNumbers(values: unknown, digits: number): string | undefined {
  return Array.isArray(values) ? shorten((values as number[]).map((value) => Number(value.toFixed(digits))).join(' '), 400) : undefined;
}

function formatRecord(record: unknown, show: (value: number) => string): string | undefined {
  if (typeof record !== 'object' || record === null) return undefined;
  return Object.entries(record as Record<string, number>).map(([key, value]) => `${key} ${show(value)}`).join(', ');
}
