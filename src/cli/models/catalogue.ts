import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { readEnvironment } from '../../lib/environment.js';
import { projectRoot } from '../../lib/project.js';
import { textDefaults } from '../../inference/generation.js';
import { CliError, exitCodes } from '../output.js';

/** One entry of `models/published.json`: what its publisher offers, at one commit, and where it goes. */
export interface PublishedModel {
  name: string;
  engine: 'sdxl' | 'wan' | 'qwen';
  title: string;
  /** Below the models folder; the worker runs it as it comes. */
  folder: string;
  repository: string;
  /** Commit, or a branch that is resolved to one. */
  revision: string;
  licence: string;
  /** About, for the list; the download asks the hub. */
  bytes: number;
  /** Device memory while generating, about. */
  memoryBytes?: number;
  /** Patterns; `*` stands for any characters but a slash, `{quant}` for the quantisation. */
  files: string[];
  quantisations?: { default: string; bytes: Record<string, number> };
  keyValueBytesPerToken?: number;
  notes?: string[];
}

export function readCatalogue(): PublishedModel[] {
  return (
    JSON.parse(readFileSync(path.join(projectRoot(), 'models/published.json'), 'utf8')) as {
      models: PublishedModel[];
    }
  ).models;
}

/** @throws CliError with what there is */
export function findModel(name: string, models: readonly PublishedModel[] = readCatalogue()): PublishedModel {
  const model = models.find((each) => each.name === name.toLowerCase());
  if (model === undefined)
    throw new CliError(
      `There is no model ${name} to pull; there are ${models.map((each) => each.name).join(', ')}. ` +
        'Any other checkpoint works too: put it into the models folder (docs/models.md).',
      exitCodes.usage,
    );
  return model;
}

/**
 * The quantisation to fetch, or undefined for models without the choice. Names the hub does not have are
 * found out later.
 */
export function chooseQuantisation(model: PublishedModel, asked: string | undefined): string | undefined {
  if (model.quantisations === undefined) {
    if (asked !== undefined)
      throw new CliError(`${model.name} comes in one form only: leave --quant out`, exitCodes.usage);
    return undefined;
  }
  const quant = asked?.toLowerCase() ?? model.quantisations.default;
  if (!/^[a-z0-9_]+$/.test(quant))
    throw new CliError(
      `--quant ${asked}: one of ${Object.keys(model.quantisations.bytes).join(', ')}`,
      exitCodes.usage,
    );
  return quant;
}

/** Which of a repository's files belong to the model. @throws CliError naming the pattern nothing matches */
export function selectFiles<File extends { path: string }>(
  model: PublishedModel,
  quant: string | undefined,
  files: readonly File[],
): File[] {
  const patterns = model.files.map((pattern) => toExpression(pattern, quant));
  const chosen = files.filter((file) => patterns.some((pattern) => pattern.test(file.path)));
  if (quant !== undefined) {
    if (chosen.length > 0) return chosen;
    const any = model.files.map((pattern) => toExpression(pattern, '(?<quant>[a-z0-9_]+?)'));
    const offered = new Set(
      files.flatMap((file) =>
        any
          .map((pattern) => pattern.exec(file.path)?.groups?.['quant'])
          .filter((found) => found !== undefined),
      ),
    );
    throw new CliError(
      `${model.repository} has no ${quant}; it has ${[...offered].sort().join(', ') || 'no quantisation at all'}`,
      exitCodes.usage,
    );
  }
  const missing = model.files.filter(
    (_pattern, index) => !files.some((file) => patterns[index]?.test(file.path)),
  );
  if (missing.length > 0)
    throw new CliError(
      `${model.repository} has no ${missing.join(', ')} at this revision: leave --revision out, or choose another one`,
      exitCodes.failed,
    );
  return chosen;
}

function toExpression(pattern: string, quant = ''): RegExp {
  const escaped = pattern
    .split('{quant}')
    .map((part) => part.replace(/[.+?^$()|[\]\\{}]/g, '\\$&').replaceAll('*', '[^/]*'));
  return new RegExp(`^${escaped.join(quant)}$`);
}

/** Weights, key-value cache of `sequences` prompts at once, and half a gigabyte for computing. */
export function ggufMemoryBytes(
  model: PublishedModel,
  weightBytes: number,
  sequences = textDefaults.sequences,
): number {
  return weightBytes + (model.keyValueBytesPerToken ?? 0) * textDefaults.contextTokens * sequences + 5e8;
}

export interface ModelLocations {
  /** Where model folders lie. */
  modelsDir: string;
  /** True: neither `--to` nor `MODELS_DIR` says so, and the service must be told. */
  isDefault: boolean;
  endpoint: string;
  token: string | undefined;
  /** How long one answer of the hub's API may take, and how long a silent connection is waited for. */
  answerMs: number;
  timeoutMs: number;
  /** The hub cache of other tools on this machine. */
  cacheDir: string;
}

/**
 * Where models go and come from: the flag, then the environment, then `.env` of the working folder. Not the
 * pocket models' folder, even though the service reads it by default: there they would stand beside models of
 * the same engines. The variables that begin with `HF_` mean what they mean to the hub's own tools.
 */
export function findModelLocations(
  to: string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
  workingFolder = process.cwd(),
): ModelLocations {
  const settings = readEnvironment(environment, workingFolder);
  const home =
    settings['HF_HOME'] ??
    path.join(settings['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'huggingface');
  const tokenFile = path.join(home, 'token');
  const chosen = to ?? settings['MODELS_DIR'];
  return {
    modelsDir: path.resolve(workingFolder, chosen ?? path.join(projectRoot(), 'models/full')),
    isDefault: chosen === undefined,
    endpoint: settings['HF_ENDPOINT'] ?? 'https://huggingface.co',
    token:
      settings['HF_TOKEN'] ??
      (existsSync(tokenFile) ? readFileSync(tokenFile, 'utf8').trim() || undefined : undefined),
    answerMs: secondsOf(settings['HF_HUB_ETAG_TIMEOUT']),
    timeoutMs: secondsOf(settings['HF_HUB_DOWNLOAD_TIMEOUT']),
    cacheDir: settings['HF_HUB_CACHE'] ?? path.join(home, 'hub'),
  };
}

function secondsOf(text: string | undefined): number {
  const seconds = Number(text);
  return text !== undefined && seconds > 0 && seconds <= 86_400 ? seconds * 1000 : 60_000;
}
