import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { SdxlSettings } from './model-folders.js';
import { createSceneDetector, type Scene, type SubjectLists } from './scene-detector.js';

interface NegativePrompt {
  /** Null: the model's own rule for no negative prompt (zeros); `''`: the empty text is encoded. */
  text: string | null;
  /** `automatic`, or `none` when this model or setting does without. */
  source: 'automatic' | 'none';
  scene: Scene | null;
}

interface NegativePromptOptions {
  /** Folder with `common.txt`, `none.txt`, `single.txt`, `several.txt`, `subjects.json`. */
  folder: string;
  /** False: never without the job asking. */
  enabled: boolean;
  model: { [K in 'autoNegative' | 'withoutNegative']?: SdxlSettings[K] | undefined };
}

/**
 * Negative prompts for jobs that bring none, by scene. Texts and word lists are files, read once; a model
 * folder may replace or switch them off, because words a model never learnt push its pictures anywhere.
 */
export async function createNegativePrompts({ folder, enabled, model }: NegativePromptOptions) {
  const read = async (name: string) => phrases(await readFile(path.join(folder, name), 'utf8'));
  const common = await read('common.txt');
  const texts: Record<Scene, string> = {
    none: [...common, ...(await read('none.txt'))].join(', '),
    single: [...common, ...(await read('single.txt'))].join(', '),
    several: [...common, ...(await read('several.txt'))].join(', '),
    ...(typeof model.autoNegative === 'object' ? model.autoNegative : {}),
  };
  const detectScene = createSceneDetector(
    JSON.parse(await readFile(path.join(folder, 'subjects.json'), 'utf8')) as SubjectLists,
  );
  const without: NegativePrompt = {
    text: model.withoutNegative === 'empty' ? '' : null,
    source: 'none',
    scene: null,
  };

  return {
    forPrompt(prompt: string): NegativePrompt {
      if (!enabled || model.autoNegative === false) return without;
      const scene = detectScene(prompt);
      return { text: texts[scene], source: 'automatic', scene };
    },
  };
}
export type NegativePrompts = Awaited<ReturnType<typeof createNegativePrompts>>;

/**
 * The text every WAN job is guided away from, null for none. Upstream joins its phrases with full-width
 * commas.
 */
export async function readWanNegative({
  folder,
  enabled,
  autoNegative = true,
}: {
  folder: string;
  enabled: boolean;
  autoNegative?: boolean | string | undefined;
}): Promise<string | null> {
  if (!enabled || autoNegative === false) return null;
  return typeof autoNegative === 'string'
    ? autoNegative
    : phrases(await readFile(path.join(folder, 'wan.txt'), 'utf8')).join('，');
}

function phrases(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => !line.trimStart().startsWith('#'))
    .join(',')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');
}
