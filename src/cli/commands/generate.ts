import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Command, Option } from 'commander';
import type { Job, JobPayload } from '../../../client/index.js';
import { asCliError, type Client, clientOf, isJson } from '../client.js';
import { followJob, formatExplanation, formatSeconds, notesFor, openFile, saveAssets } from '../job-view.js';
import { CliError, exitCodes, print, toInteger, toNumber, writeNote } from '../output.js';
import {
  createProgressDisplay,
  type JobProgressDisplay,
  picturesOf,
  showPicture,
  silentProgress,
} from '../progress-view.js';
import { oneLine } from '../../lib/printable.js';
import { catalogue, isJobType, type JobTypeSpec, jobTypes } from '../../services/catalogue.js';

export interface GenerateOptions {
  type: string;
  images?: number;
  seed?: number;
  width?: number;
  height?: number;
  frames?: number;
  steps?: number;
  guidance?: number;
  negative?: string;
  weights?: string;
  reference?: string;
  referenceType?: string;
  referenceStrength?: number;
  firstFrame?: string;
  lastFrame?: string;
  explain?: boolean;
  user: string;
  output: string;
  open?: boolean;
  show?: boolean;
  wait: boolean;
}

/** Owner of jobs submitted without `--user`: a fixed id, so that their files share a folder. */
export const localUserId = '00000000-0000-4000-8000-000000000001';

export function registerGenerate(program: Command): void {
  program
    .command('generate')
    .description(
      'draw a prompt or make a video of it: submits a job, shows its progress, saves the files, prints their paths',
    )
    .argument('<prompt...>', 'what to draw; quotes only where the shell wants them')
    .addOption(new Option('--type <type>', 'job type').choices(jobTypes).default('sdxl_image_fast'))
    .option('--images <count>', 'pictures of one job: 1, 3 or 6', toInteger)
    .option('--seed <seed>', 'makes the job reproducible; picture n uses seed + n', toInteger)
    .option('--width <pixels>', 'width of the picture', toInteger)
    .option('--height <pixels>', 'height of the picture', toInteger)
    .option('--frames <count>', 'frames of a video: 4n+1, sixteen a second', toInteger)
    .option('--steps <count>', 'steps of a job of WAN; the types of SDXL have their own', toInteger)
    .option('--guidance <scale>', 'how closely WAN follows the prompt, without a reference', toNumber)
    .option('--negative <text>', 'what the picture must not show; chosen automatically when absent')
    .option('--weights <weights>', 'weighted words, e.g. "(red:1.3), (circle:1.2)"')
    .option('--reference <picture>', 'picture to go by: a file, an https address, or asset:JOB_ID/0')
    .addOption(
      new Option('--reference-type <type>', 'what to take from the reference').choices([
        'style',
        'composition',
        'character',
      ]),
    )
    .option('--reference-strength <strength>', '0.1 to 1.0', toNumber)
    .option('--first-frame <picture>', 'picture a video starts with, likewise')
    .option('--last-frame <picture>', 'picture a video ends with, likewise')
    .option('--explain', 'also show tokens with weights, timesteps, times per stage and cache use')
    .option('--user <uuid>', 'owner of the job', localUserId)
    .option('--output <folder>', 'where to save the files', '.')
    .option('--open', "open the files with this machine's viewer")
    .option('--no-show', 'do not show pictures in the terminal, where it can')
    .option('--no-wait', 'only submit; print the id and leave')
    .addHelpText(
      'after',
      `
Examples:
  $ ourvidz generate a red circle above a blue square
  $ ourvidz generate "a red circle" --images 3 --seed 7 --output pictures
  $ ourvidz generate "a star" --weights "(star:1.4)" --negative "circle"
  $ ourvidz generate --type video_fast "a red circle moves left"
  $ ourvidz generate "a star" --reference x.png --reference-strength 0.6
  $ ourvidz generate "a purple heart" --json | jq -r '.files[]'

Ctrl-C cancels the job.`,
    )
    .action(async (words: string[], options: GenerateOptions, command: Command) => {
      refuseWhatDoesNotFit(options);
      await generate(clientOf(command), words.join(' '), options, isJson(command));
    });
}

/** Options that only some types have a use for. */
const special = {
  sdxl: ['images', 'negative', 'weights', 'referenceType'],
  wan: ['steps', 'guidance'],
  video: ['frames', 'firstFrame', 'lastFrame'],
} as const;
const specialOf = ({ engine, output }: JobTypeSpec): readonly string[] =>
  output === 'video' ? [...special[engine], ...special.video] : special[engine];

/** What nobody would read is refused here: a picture without it would look like one with it. */
function refuseWhatDoesNotFit(options: GenerateOptions): void {
  if (!isJobType(options.type)) return;
  const own = catalogue[options.type];
  const unfit = Object.values(special)
    .flat()
    .find((name) => options[name] !== undefined && !specialOf(own).includes(name));
  if (unfit === undefined) return;
  const flag = `--${unfit.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  const types = jobTypes.filter((type) => specialOf(catalogue[type]).includes(unfit));
  throw new CliError(
    `${options.type} has no use for ${flag}${unfit === 'steps' ? `: it draws in ${own.steps} steps` : ''}. ` +
      `${flag} is for ${types.join(', ')}.`,
    exitCodes.usage,
  );
}

async function generate(
  client: Client,
  prompt: string,
  options: GenerateOptions,
  asJson: boolean,
): Promise<void> {
  // The id is made here, so that a job can be cancelled even when the answer to its submission got lost.
  const id = randomUUID();
  options = await uploadFiles(client, options);
  const submitted = await client.createJob({
    body: buildPayload(id, prompt, options),
    'Idempotency-Key': id,
  });
  if (!options.wait) return print(asJson, submitted, () => oneLine(submitted.id));
  if (!asJson) writeNote(`Submitted as ${id}`);
  const pictures = asJson || options.show === false ? null : await picturesOf();
  const display = asJson ? silentProgress : createProgressDisplay(undefined, pictures);
  const job = await followUntilDone(client, id, display);
  if (job.status !== 'completed') {
    if (asJson) print(asJson, { ...job, files: [] }, () => '');
    const reason = oneLine(job.error_message ?? 'no reason given');
    throw new CliError(
      `The job ${id} ${job.status === 'failed' ? 'failed' : 'was cancelled'}: ${reason}`,
      exitCodes.failed,
    );
  }
  const files = await saveAssets(client, job, prompt, options.output);
  const local = files.filter((file) => path.isAbsolute(file));
  if (local.length < files.length)
    writeNote(
      "The service names the files' places in its storage; with another ASSET_URLS than path, their addresses.",
    );
  const { generation_time: seconds } = job.metadata;
  const explanation = formatExplanation(job.metadata['explain']);
  if (!asJson && typeof seconds === 'number') writeNote(`done in ${formatSeconds(seconds)}`);
  if (!asJson && explanation !== '') writeNote(explanation);
  if (!asJson) for (const line of await notesFor(client, job)) writeNote(line);
  for (const file of local) await showPicture(file, pictures).catch(() => {});
  print(asJson, { ...job, files }, () => files.map(oneLine).join('\n'));
  if (options.open === true) for (const file of local) openFile(file);
}

/** Files of this machine go to the service first; what they become there is what the job names. */
async function uploadFiles(client: Client, options: GenerateOptions): Promise<GenerateOptions> {
  const uploaded = { ...options };
  for (const name of ['reference', 'firstFrame', 'lastFrame'] as const) {
    const file = options[name];
    if (file === undefined || /^[a-z][a-z0-9+.-]+:/i.test(file)) continue;
    if (!existsSync(file) && /^[a-z0-9_]+\//.test(file)) continue;
    const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'There is no file' : `${error.code} keeps from reading the file`;
      throw new CliError(`${why} ${oneLine(file)}`, exitCodes.usage);
    });
    const { reference } = await client.uploadReference(new Blob([bytes]), { userId: options.user });
    uploaded[name] = reference;
  }
  return uploaded;
}

/** Follows the job; the first Ctrl-C asks the service to cancel it, the second leaves at once. */
async function followUntilDone(client: Client, id: string, display: JobProgressDisplay): Promise<Job> {
  const leave = new AbortController();
  let interrupted = false;
  const onInterrupt = () => {
    if (interrupted) return leave.abort();
    interrupted = true;
    display.note('Cancelling the job; press Ctrl-C again to leave without waiting');
    client.cancelJob({ id }).catch((error: unknown) => {
      display.note(asCliError(error).message);
      leave.abort();
    });
  };
  process.on('SIGINT', onInterrupt);
  try {
    const job = await followJob(client, id, display, leave.signal);
    display.stop();
    if (interrupted && job.status !== 'completed')
      throw new CliError(`The job ${id} was cancelled`, exitCodes.interrupted);
    return job;
  } catch (error) {
    display.stop();
    if (leave.signal.aborted) throw new CliError(`Left; the job is ${id}`, exitCodes.interrupted);
    throw error;
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}

/**
 * The queue's payload (openapi.yaml, schema JobPayload) from what was typed; fields not given are left out.
 */
export function buildPayload(id: string, prompt: string, options: GenerateOptions): JobPayload {
  const isSdxl = isJobType(options.type) && catalogue[options.type].engine === 'sdxl';
  const config = isSdxl
    ? {
        num_images: options.images,
        seed: options.seed,
        width: options.width,
        height: options.height,
        negative_prompt: options.negative,
        explain: options.explain,
      }
    : {
        seed: options.seed,
        frame_num: options.frames,
        sample_steps: options.steps,
        sample_guide_scale: options.guidance,
        first_frame: options.firstFrame,
        last_frame: options.lastFrame,
        size: options.width && options.height ? `${options.width}*${options.height}` : undefined,
        explain: options.explain,
      };
  const metadata = {
    reference_image_url: options.reference,
    reference_type: isSdxl ? options.referenceType : undefined,
    reference_strength: options.referenceStrength,
  };
  return {
    id,
    type: options.type,
    prompt,
    user_id: options.user,
    ...(options.weights === undefined ? {} : { compel_enabled: true, compel_weights: options.weights }),
    config: withoutUndefined(config),
    metadata: withoutUndefined(metadata),
    // What was typed is for the service to judge.
  } as JobPayload;
}

function withoutUndefined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
