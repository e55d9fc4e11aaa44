import path from 'node:path';
import { promptsDirOf, type Config } from '../../config.js';
import type { Trouble } from '../../lib/errors.js';
import { projectRoot } from '../../lib/project.js';
import { findModelFolders, defaultSchedulers, readSdxlSettings, readWanSettings } from './model-folders.js';
import { createNegativePrompts, readWanNegative } from './negative-prompts.js';
import { createVideoEncoder } from '../../lib/video-tools.js';

const pocketDir = () => path.join(projectRoot(), 'models/pocket');
export const modelsDirOf = (config: Config): string => config.modelsDir ?? pocketDir();

/**
 * Why a worker that others count on takes none of their jobs: they would be drawn by the small models that ship
 * with the service. Null where that is what was asked for.
 */
export function pocketTrouble(config: Config): Trouble | null {
  const { redisUrl, upstashUrl, supabaseUrl, callbackUrl, allowPocketModels } = config;
  const isShared = [redisUrl, upstashUrl, supabaseUrl, callbackUrl].some((one) => one !== undefined);
  if (!isShared || allowPocketModels || path.resolve(modelsDirOf(config)) !== pocketDir()) return null;
  return {
    code: 'pocket_models',
    severity: 'critical',
    what: 'This worker must not be counted on',
    cause: 'the pocket models would draw the jobs of a shared queue',
    cure: 'Set MODELS_DIR to real ones (ourvidz models pull), or ALLOW_POCKET_MODELS=on.',
  };
}

/** The model folders, and how pictures and clips are drawn with them where a job does not say. */
export async function openModels(config: Config) {
  const folders = await findModelFolders(modelsDirOf(config));
  const videoEncoder = createVideoEncoder({ command: config.ffmpeg });
  await videoEncoder.find();
  const folder = path.join(promptsDirOf(config), 'negative');
  const enabled = config.autoNegative !== 'off';
  /** A model may do without negative prompts; the operator may insist. */
  const insist = <T>(own: T | undefined) => (config.autoNegative === 'on' && own === false ? true : own);

  const sdxl = folders.sdxl.dir === null ? {} : await readSdxlSettings(folders.sdxl.dir);
  const wan = folders.wan.dir === null ? {} : await readWanSettings(folders.wan.dir);
  return {
    folders,
    videoEncoder,
    sdxl: {
      world: sdxl.world,
      scheduler:
        config.sdxlScheduler === 'auto' ? (sdxl.scheduler ?? defaultSchedulers.sdxl) : config.sdxlScheduler,
      steps: sdxl.steps,
      guidanceScale: sdxl.guidanceScale,
      negativePrompts: await createNegativePrompts({
        folder,
        enabled,
        model: { ...sdxl, autoNegative: insist(sdxl.autoNegative) },
      }),
    },
    wan: {
      world: wan.world,
      scheduler:
        config.wanScheduler === 'auto' ? (wan.scheduler ?? defaultSchedulers.wan) : config.wanScheduler,
      shift: wan.shift,
      negativePrompt: await readWanNegative({ folder, enabled, autoNegative: insist(wan.autoNegative) }),
    },
  };
}
export type Models = Awaited<ReturnType<typeof openModels>>;
