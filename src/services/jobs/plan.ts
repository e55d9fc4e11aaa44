import { createHash } from 'node:crypto';
import type { EngineEvent, LoadResult } from '../../inference/engine-protocol.js';
import type { GeneratedFile, SdxlGenerateResult, WanGenerateResult } from '../../inference/generation.js';
import type { PromptNote } from '../../lib/prompt-weights.js';
import type { World } from '../models/model-folders.js';
import type { StageSeconds, TimedStage } from './progress-estimator.js';

export type EnhancementType = 'base' | 'chat' | 'instruct_chat';

/** What became of a job's prompt. */
export interface EnhancementOutcome {
  type: EnhancementType;
  success: boolean;
  seconds: number;
  /** Where the text came from: a model's name or `original`. */
  source: string;
  prompt: string;
  /** Why it is the original, or not from the model that was asked for. */
  reason?: string;
}

/** A picture a job refers to, fetched before the engine is asked. */
export interface PlannedReference {
  role: 'reference' | 'start' | 'end';
  url: string;
  /** Where the producer wrote it, for error messages: `metadata.reference_image_url`. */
  field: string;
}

export interface GenerateContext {
  /** Empty folder for the engine's files. */
  outputDir: string;
  /** The prompt to draw: the producer's, or what the enhancement made of it. */
  prompt: string;
  /** Local files of the fetched references. */
  references: ReadonlyMap<PlannedReference['role'], string>;
  attempt: number;
  signal: AbortSignal;
  onEvent: (event: EngineEvent) => void;
  /** How long the stages of such jobs took so far; absent before the first one. */
  expectedStageSeconds?: StageSeconds;
}

export interface GenerateOutcome {
  files: GeneratedFile[];
  /** Still of a video: stored beside it, named in the metadata, no asset of its own. */
  poster?: GeneratedFile;
  /** Seconds by stage as the engine measured them. */
  timings: Record<string, number>;
  /** What the engine can say of the job beyond `GenerationPlan.metadata`. */
  metadata: Record<string, unknown>;
}

/**
 * What one valid job asks of its engine: everything the runner needs to know that differs between engines.
 */
export interface GenerationPlan {
  /** Jobs with the same key take the same time on the same machine. */
  estimateKey: string;
  stages: ReadonlySet<TimedStage>;
  /**
   * Two stages the engine goes back and forth between; neither is over because the other is reported.
   * Default: denoise and decode.
   */
  takingTurns?: readonly [TimedStage, TimedStage];
  references: PlannedReference[];
  /** What of the job's prompt is words; absent: all of it. */
  prompt?: string;
  /** Set for job types whose prompt Qwen rewrites. */
  enhancement?: { type: EnhancementType; sessionId?: string; context?: string };
  /** Facts known before the engine runs: seeds, sizes, strategy, reference mode, … */
  metadata: Record<string, unknown>;
  generate(context: GenerateContext): Promise<GenerateOutcome>;
}

/** What was changed, dropped or cut of a field, as callbacks and `/test-compel` list it. */
export type FieldNote = PromptNote & { field: string };
export type FieldNotes = Array<[field: string, notes: readonly PromptNote[]]>;
const mostNotes = 20;
const longestNoted = 200;

/** Texts are shortened, and beyond twenty notes the rest is left out. */
export function notesOf(...fields: FieldNotes): FieldNote[] {
  const all = fields.flatMap(([field, notes]) => notes.map(({ text, note }) => ({ field, text, note })));
  return all.slice(0, mostNotes).map((one) => ({ ...one, text: shortened(one.text) }));
}

const numbers: Readonly<Record<string, number>> = {
  ...{ two: 2, three: 3, four: 4, five: 5, six: 6, seven: 7, eight: 8, nine: 9, ten: 10, eleven: 11 },
  ...{ twelve: 12, dozen: 12, twenty: 20, hundred: 100, hundreds: 100, thousand: 1000, thousands: 1000 },
};
const unknown = 'this demo model does not know it';

/** What of a prompt and of the sizes that were asked for a small model cannot know. */
export function worldNotes(
  world: World | undefined,
  prompt: string,
  asked: Array<[field: string, value: string | number | null | undefined, native: string | number]>,
): FieldNotes {
  if (world === undefined) return [];
  const sizes = asked.filter(
    ([, value, native]) => value !== undefined && value !== null && value !== native,
  );
  return [
    ['prompt', wordNotes(world, prompt)],
    ...sizes.map(([field, value, native]): FieldNotes[number] => [
      field,
      [{ text: String(value), note: `this demo model was made for ${native}: other sizes fall apart` }],
    ]),
  ];
}

function wordNotes(world: World, prompt: string): PromptNote[] {
  const known = new Set(Object.values(world.words).flat());
  const read = new Set([...(world.words['grammar'] ?? []), ...(world.words['quality'] ?? [])]);
  // The numbers of weights are no words: (star:1.4), star++, (star)1.2
  const text = prompt.replace(/:\s*[+-]?[\d.]+\s*(?=[)\]])|(?<=\))[\d.]+/g, '');
  const words = [...text.matchAll(/[\p{L}\p{M}\p{N}]+/gu)].map(({ 0: word, index }) => ({
    word: word.toLowerCase(),
    from: index,
    to: index + word.length,
  }));
  const notes: PromptNote[] = [];
  const runs: Array<{ from: number; to: number }> = [];
  for (const { word, from, to } of words) {
    const count = numbers[word] ?? (/^\d{1,6}$/.test(word) ? Number(word) : undefined);
    if (count !== undefined && count > (world.mostOfAKind ?? Infinity))
      notes.push({ text: word, note: `this demo model draws ${world.mostOfAKind} of a kind at most` });
    else if (count === undefined && !known.has(word)) {
      const last = runs.at(-1);
      const between = last === undefined ? '' : text.slice(last.to, from);
      const isJoined =
        /^[^,.;:!?]*$/u.test(between) &&
        between.split(/\s+/).every((one) => one === '' || read.has(one.toLowerCase()));
      if (last !== undefined && isJoined) last.to = to;
      else runs.push({ from, to });
    }
  }
  notes.push(...runs.map(({ from, to }) => ({ text: text.slice(from, to), note: unknown })));
  const things = words.filter(({ word }) => world.words['shapes']?.includes(word) === true);
  if (things.length > (world.mostThings ?? Infinity))
    notes.push({
      text: things.map(({ word }) => word).join(', '),
      note: `this demo model draws ${world.mostThings} different things at most`,
    });
  const [first] = notes;
  if (first === undefined) return notes;
  const drawable = words.filter(({ word }) => known.has(word) && !read.has(word));
  const english = words.some(({ word }) => known.has(word)) ? '' : ' and reads English only';
  const rest = drawable.length === 0 ? '; nothing else is asked for' : '';
  first.note += `${english}${rest}. It draws ${world.draws}`;
  return notes;
}

const shortened = (text: string) => (text.length > longestNoted ? `${text.slice(0, longestNoted)}…` : text);

/** A job without a seed gets one of its id: another attempt of the same job draws the same pictures. */
export function seedFromId(id: string): number {
  return createHash('sha256').update(id).digest().readUInt32BE(0) % (2 ** 32 - 8);
}

/** What is written into a file's metadata, in the form that A1111-style tools read; undefined is left out. */
export function parametersText(
  { prompt, negativePrompt }: { prompt: string; negativePrompt: string | null },
  settings: Record<string, string | number | undefined>,
): string {
  // the engine fills in the first `Seed: {seed}`: it must be ours, not a prompt's
  const unmarked = (text: string) => text.replaceAll('Seed: {seed}', 'Seed:{seed}');
  return [
    unmarked(prompt),
    ...(negativePrompt ? [unmarked(`Negative prompt: ${negativePrompt}`)] : []),
    Object.entries(settings)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${value}`)
      .join(', '),
  ].join('\n');
}

/** What the engine says of a drawn job, whichever engine it is. */
export function drawnMetadata(
  result: SdxlGenerateResult | WanGenerateResult,
  loaded: LoadResult | null,
): Record<string, unknown> {
  return {
    token_count: result.tokenCount,
    prompt_truncated: result.truncated,
    ...(result.referenceMethod === undefined ? {} : { reference_method: result.referenceMethod }),
    ...(result.explain === undefined ? {} : { explain: result.explain }),
    ...(loaded === null ? {} : { model: loaded.model.name, device: loaded.device }),
  };
}
