import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { parse } from 'yaml';

export type Strategy = 'base' | 'chat';
export type Target = 'image' | 'video';

/**
 * How the model picks its words; what a template leaves out keeps Qwen2.5's own defaults (its
 * generation_config.json).
 */
export interface Sampling {
  temperature: number;
  topP: number;
  topK: number;
  repeatPenalty: number;
  maxTokens: number;
}

export interface Template {
  name: string;
  strategy: Strategy;
  target: Target;
  version: string;
  sampling: Sampling;
  /** `base`: the text to continue, with `{prompt}` in it once. `chat`: the system message. */
  text: string;
}

export type Templates = Awaited<ReturnType<typeof readTemplates>>;

/** Longest answer of both strategies, tokens. */
export const mostNewTokens = 512;
const defaultSampling: Sampling = {
  temperature: 0.7,
  topP: 0.8,
  topK: 20,
  repeatPenalty: 1.05,
  maxTokens: mostNewTokens,
};
const samplingRules: Record<
  string,
  { key: keyof Sampling; minimum: number; maximum: number; whole: boolean }
> = {
  temperature: { key: 'temperature', minimum: 0, maximum: 2, whole: false },
  top_p: { key: 'topP', minimum: 0, maximum: 1, whole: false },
  top_k: { key: 'topK', minimum: 0, maximum: 1000, whole: true },
  repeat_penalty: { key: 'repeatPenalty', minimum: 0.5, maximum: 2, whole: false },
  max_tokens: { key: 'maxTokens', minimum: 1, maximum: mostNewTokens, whole: true },
};
const strategies: readonly string[] = ['base', 'chat'] satisfies Strategy[];
const targets: readonly string[] = ['image', 'video'] satisfies Target[];
const known = new Set(['name', 'strategy', 'target', 'version', 'sampling']);
const longestText = 8000;
export const placeholder = '{prompt}';

/**
 * Reads every `*.md` of the folder. A request that names no template gets `base-image`, `base-video`,
 * `chat-image` or `chat-video`, so these four must be there.
 * @throws Error that lists all that is wrong with all files
 */
export async function readTemplates(folder: string) {
  const files = (await readdir(folder)).filter((file) => file.endsWith('.md') && file !== 'README.md').sort();
  const problems: string[] = [];
  const byName = new Map<string, Template>();
  for (const file of files) {
    const found = parseTemplate(await readFile(path.join(folder, file), 'utf8'));
    if (Array.isArray(found)) problems.push(...found.map((problem) => `${file}: ${problem}`));
    else if (byName.has(found.name)) problems.push(`${file}: another file has the name ${found.name} too`);
    else byName.set(found.name, found);
  }
  if (problems.length === 0) {
    for (const strategy of strategies) {
      for (const target of targets) {
        const template = byName.get(`${strategy}-${target}`);
        if (template?.strategy !== strategy || template.target !== target)
          problems.push(`there is no template ${strategy}-${target} with this strategy and target`);
      }
    }
  }
  if (problems.length > 0)
    throw new Error(`The prompt templates in ${folder} cannot be used:\n  ${problems.join('\n  ')}`);

  return {
    list: [...byName.values()] as readonly Template[],
    get: (name: string): Template | undefined => byName.get(name),
    standard(strategy: Strategy, target: Target): Template {
      return byName.get(`${strategy}-${target}`) as Template;
    },
  };
}

/** A template, or what is wrong with it. */
export function parseTemplate(source: string): Template | string[] {
  const parts = /^---\r?\n([\s\S]*?)\r?\n---\r?\n([\s\S]*)$/.exec(source.replace(/^\uFEFF/, ''));
  if (parts?.[1] === undefined || parts[2] === undefined)
    return ['it must begin with front matter between two lines of ---'];
  let head: unknown;
  try {
    head = parse(parts[1]);
  } catch (error) {
    return [`the front matter is not YAML: ${(error as Error).message.split('\n')[0] ?? ''}`];
  }
  if (typeof head !== 'object' || head === null || Array.isArray(head))
    return ['the front matter must be a list of names and values'];
  const fields = head as Record<string, unknown>;
  const problems = Object.keys(fields)
    .filter((name) => !known.has(name))
    .map((name) => `${name} is not known`);
  const { name, strategy, target, version } = fields;
  if (typeof name !== 'string' || !/^[a-z0-9][a-z0-9-]{0,63}$/.test(name))
    problems.push('name must be lower-case letters, digits and hyphens, at most 64');
  if (typeof strategy !== 'string' || !strategies.includes(strategy))
    problems.push(`strategy must be ${strategies.join(' or ')}`);
  if (typeof target !== 'string' || !targets.includes(target))
    problems.push(`target must be ${targets.join(' or ')}`);
  if (!['string', 'number'].includes(typeof version) || String(version).length > 50)
    problems.push('version must be a number or a short text');
  const sampling = parseSampling(fields['sampling'], problems);
  const text = parts[2].replaceAll('\r\n', '\n').trim();
  if (text === '' || text.length > longestText)
    problems.push(`the text must have 1 to ${longestText} characters`);
  const places = text.split(placeholder).length - 1;
  if (strategy === 'base' && places !== 1) problems.push(`a base template must contain ${placeholder} once`);
  if (strategy === 'chat' && places !== 0)
    problems.push(`a chat template is the system message: it must not contain ${placeholder}`);
  return problems.length > 0
    ? problems
    : ({ name, strategy, target, version: String(version), sampling, text } as Template);
}

function parseSampling(given: unknown, problems: string[]): Sampling {
  const sampling = { ...defaultSampling };
  if (given === undefined || given === null) return sampling;
  if (typeof given !== 'object' || Array.isArray(given)) {
    problems.push('sampling must be names and numbers');
    return sampling;
  }
  for (const [name, value] of Object.entries(given)) {
    const rule = Object.hasOwn(samplingRules, name) ? samplingRules[name] : undefined;
    if (rule === undefined)
      problems.push(`sampling.${name} is not known; ${Object.keys(samplingRules).join(', ')} are`);
    else if (
      typeof value !== 'number' ||
      !(value >= rule.minimum && value <= rule.maximum) ||
      (rule.whole && !Number.isInteger(value))
    ) {
      problems.push(
        `sampling.${name} must be a ${rule.whole ? 'whole ' : ''}number from ${rule.minimum} to ${rule.maximum}`,
      );
    } else sampling[rule.key] = value;
  }
  return sampling;
}

/**
 * The text a completion continues. The prompt is put on one line: a line break would end it for the model.
 */
export function fillTemplate(template: Template, prompt: string): string {
  return template.text.replace(placeholder, () => onOneLine(prompt));
}

export function onOneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
