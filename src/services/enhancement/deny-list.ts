import { readFile } from 'node:fs/promises';
import { RE2JS } from 're2js';
import { cutSyntax, parsePrompt, plainText } from '../../lib/prompt-weights.js';

/**
 * What a text was rejected for. The rule's own words stay in the log: a client must not learn the list by
 * asking.
 */
export interface Denial {
  kind: 'exact' | 'word' | 'regex';
  /** Line of the file. */
  line: number;
}

export interface DenyList {
  /** Rules in force. */
  size: number;
  /** The first rule that one of the texts breaks, or null. */
  check(...texts: Array<string | null | undefined>): Denial | null;
}

export const emptyDenyList: DenyList = { size: 0, check: () => null };

/** @throws Error naming the file, when it cannot be read or a line of it is no rule */
export async function readDenyList(file: string): Promise<DenyList> {
  let source: string;
  try {
    source = await readFile(file, 'utf8');
  } catch (error) {
    throw new Error(
      `The deny list ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`,
      { cause: error },
    );
  }
  try {
    return parseDenyList(source);
  } catch (error) {
    throw new Error(`The deny list ${file} cannot be used:\n  ${(error as Error).message}`, { cause: error });
  }
}

/**
 * One rule a line, `#` begins a comment line:
 * `exact: text` – the whole text is this; `word: text` – it occurs as whole words; `regex: pattern` – the
 * pattern matches somewhere. Case, width, runs of white space, invisible characters and the syntax of prompt
 * weights make no difference. Patterns are RE2's:
 * their time grows with the length of the text and nothing else, so no prompt can make one hang.
 * @throws Error with a line for each broken rule
 */
export function parseDenyList(source: string): DenyList {
  const exact = new Map<string, Denial>();
  const searched: Array<{ denial: Denial; pattern: RE2JS }> = [];
  const problems: string[] = [];
  for (const [index, text] of source
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = index + 1;
    if (/^\s*(?:#|$)/.test(text)) continue;
    const rule = /^\s*(exact|word|regex):\s*(\S.*?)\s*$/.exec(text);
    const [, kind, value] = rule ?? [];
    if (kind === undefined || value === undefined) {
      problems.push(`line ${line}: a rule is "exact:", "word:" or "regex:" and a text`);
    } else if (kind === 'exact') {
      if (!exact.has(normalise(value))) exact.set(normalise(value), { kind, line });
    } else {
      try {
        searched.push({
          denial: { kind: kind as 'word' | 'regex', line },
          pattern: kind === 'word' ? wordPattern(value) : RE2JS.compile(value, RE2JS.CASE_INSENSITIVE),
        });
      } catch (error) {
        problems.push(`line ${line}: ${(error as Error).message}`);
      }
    }
  }
  if (problems.length > 0) throw new Error(problems.join('\n  '));

  return {
    size: exact.size + searched.length,
    check(...texts) {
      for (const text of texts) {
        if (typeof text !== 'string' || text === '') continue;
        for (const plain of readings(text)) {
          const found =
            exact.get(plain) ?? searched.find(({ pattern }) => pattern.matcher(plain).find())?.denial;
          if (found !== undefined) return found;
        }
      }
      return null;
    },
  };
}

/** A word ends where no letter, mark or digit follows, in any script. */
function wordPattern(value: string): RE2JS {
  const edge = '[^\\p{L}\\p{M}\\p{N}_]';
  return RE2JS.compile(`(?:^|${edge})${RE2JS.quote(normalise(value))}(?:$|${edge})`);
}

/**
 * A text as it stands, and what is left of it where weights are read from it: weights join and part words.
 */
function readings(text: string): Set<string> {
  return new Set([text, plainText(parsePrompt(text)), cutSyntax(text)].map(normalise));
}

/** Compatibility forms, what is not shown, and case are ways to write the same word. */
function normalise(text: string): string {
  return text
    .normalize('NFKC')
    .replace(/[\p{Default_Ignorable_Code_Point}\p{Cf}]|(?!\s)\p{Cc}/gu, '')
    .normalize('NFKC')
    .toLowerCase()
    .replace(/\s+/g, ' ')
    .trim();
}
