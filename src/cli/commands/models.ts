import type { Command } from 'commander';
import {
  chooseQuantisation,
  findModel,
  findModelLocations,
  type ModelLocations,
  type PublishedModel,
  readCatalogue,
} from '../models/catalogue.js';
import {
  describeAll,
  describeImport,
  describeModel,
  describeNext,
  describePlan,
  summary,
} from '../models/describe.js';
import { listPulled, verifyFolder } from '../models/files.js';
import { createHub } from '../models/hub.js';
import { planPull, requireSpace, runPull } from '../models/pull.js';
import { importCheckpoint } from '../../inference/checkpoint/import.js';
import { CheckpointError } from '../../inference/checkpoint/tensor-table.js';
import { CliError, exitCodes, print, writeNote } from '../output.js';
import { isJson } from '../client.js';
import { createTransferView } from '../progress-view.js';

interface PullFlags {
  quant?: string;
  to?: string;
  revision?: string;
  dryRun?: boolean;
  force?: boolean;
}

export function registerModels(program: Command): void {
  const models = program
    .command('models')
    .description('published models: what there is, fetch it, check it; needs no running service');

  models
    .command('list')
    .description('models that can be pulled, and which are here')
    .argument('[name]', 'one model with all its choices')
    .option('--to <folder>', 'models folder (MODELS_DIR)')
    .action(async (name: string | undefined, flags: { to?: string }, command: Command) => {
      const locations = findModelLocations(flags.to);
      const pulled = await listPulled(locations.modelsDir);
      const shown = name === undefined ? readCatalogue() : [findModel(name)];
      print(
        isJson(command),
        {
          models_dir: locations.modelsDir,
          models: shown.map((model) => ({
            ...model,
            here: pulled.some(({ record }) => record.name === model.name),
          })),
        },
        () =>
          name === undefined
            ? describeAll(shown, pulled, locations)
            : describeModel(shown[0] as PublishedModel),
      );
    });

  models
    .command('pull')
    .description('download a model, resumable and checked, into the models folder')
    .argument('<name>', 'as models list names it')
    .option('--quant <name>', 'quantisation of a GGUF (models list NAME shows them)')
    .option('--to <folder>', 'models folder (MODELS_DIR; default: models/full of the worker)')
    .option('--revision <commit>', 'another commit or branch than the one this version was made for')
    .option('--dry-run', 'say what would be fetched, and fetch nothing')
    .option('--force', "replace what stands in the model's folder")
    .addHelpText(
      'after',
      `
An interrupted pull goes on where it ended: run the same command again.
Every file is checked against the hub's checksum.

Environment:
  MODELS_DIR              models folder
  HF_ENDPOINT             a mirror of the hub
  HF_TOKEN                for gated repositories, and for higher limits
  HF_HOME                 the hub's folder: token, cache of other tools
  HF_HUB_ETAG_TIMEOUT     seconds one answer of the hub's API may take (60)
  HF_HUB_DOWNLOAD_TIMEOUT seconds a silent download is waited for (60)
  HTTPS_PROXY             the way to the hub

Examples:
  $ ourvidz models pull sdxl --to /srv/models
  $ ourvidz models pull qwen2.5-7b-instruct --quant q5_k_m`,
    )
    .action(async (name: string, flags: PullFlags, command: Command) => pull(name, flags, isJson(command)));

  models
    .command('import')
    .description('use a checkpoint that is here: check it, and give it a folder in the models folder')
    .argument(
      '<source>',
      "single-file SDXL (.safetensors), a diffusers folder of SDXL or Wan 2.1, Wan's own folder, or an IP-Adapter",
    )
    .option('--as <name>', 'its folder in the models folder; of an adapter, the model it is for')
    .option('--to <folder>', 'models folder (MODELS_DIR)')
    .option('--force', 'replace what stands there')
    .addHelpText(
      'after',
      `
Weights are not copied: on the same disk they get a second name, from another
disk they are linked to. Single files need nothing beside them: configurations
and tokenizers come with the service. An adapter needs the image encoder that it
was trained with: in image_encoder beside it, or where its publisher has it.

Examples:
  $ ourvidz models import lustify_v20.safetensors --as sdxl-lustify
  $ ourvidz models import ~/Wan2.1-T2V-1.3B
  $ ourvidz models import ip-adapter_sdxl_vit-h.safetensors --as sdxl-lustify`,
    )
    .action(async (source: string, flags: ImportFlags, command: Command) =>
      importModel(source, flags, isJson(command)),
    );

  models
    .command('verify')
    .description("read pulled models again and compare every file with the hub's checksum")
    .argument('[names...]', 'only these')
    .option('--to <folder>', 'models folder (MODELS_DIR)')
    .action(async (names: string[], flags: { to?: string }, command: Command) =>
      verify(names, findModelLocations(flags.to), isJson(command)),
    );
}

interface ImportFlags {
  as?: string;
  to?: string;
  force?: boolean;
}

async function importModel(source: string, flags: ImportFlags, asJson: boolean): Promise<void> {
  const { modelsDir } = findModelLocations(flags.to);
  const { signal, ...interruption } = onInterruption();
  let view: ReturnType<typeof createTransferView> | undefined;
  try {
    const began = performance.now();
    const done = await importCheckpoint(source, {
      modelsDir,
      name: flags.as,
      force: flags.force === true,
      signal,
      onTotal: (bytes) => (view = createTransferView(bytes)),
      onBytes: (count) => view?.add(count),
    }).finally(() => view?.stop());
    const seconds = (performance.now() - began) / 1000;
    print(asJson, { ...done, seconds }, () => describeImport(done, seconds, source));
  } catch (error) {
    if (error instanceof CheckpointError)
      throw new CliError(`Not imported: ${error.message}`, exitCodes.failed);
    throw signal.aborted ? signal.reason : error;
  } finally {
    interruption.ignore();
  }
}

async function pull(name: string, flags: PullFlags, asJson: boolean): Promise<void> {
  const model = findModel(name);
  const quantisation = chooseQuantisation(model, flags.quant);
  const locations = findModelLocations(flags.to);
  const hub = createHub(locations);
  const { signal, ...interruption } = onInterruption();
  try {
    const plan = await planPull(model, { quantisation, revision: flags.revision, hub, locations, signal });
    if (flags.dryRun === true) {
      print(asJson, summary(plan), () => describePlan(plan));
      return await requireSpace(plan);
    }
    if (plan.standing === 'same') {
      const cure = `(ourvidz models verify ${model.name} reads it again)`;
      return print(asJson, summary(plan), () => `${model.name} is here already: ${plan.folder} ${cure}`);
    }
    writeNote(describePlan(plan));
    const view = createTransferView(plan.totalBytes);
    const { cacheDir } = locations;
    const { add: onBytes, note } = view;
    await runPull(plan, { hub, cacheDir, force: flags.force === true, signal, onBytes, note }).finally(
      view.stop,
    );
    print(asJson, summary(plan), () => describeNext(plan, locations));
  } catch (error) {
    throw signal.aborted ? signal.reason : error;
  } finally {
    interruption.ignore();
    await hub.close();
  }
}

/** A signal that ends with the first Ctrl-C; a second one ends the process by itself. */
function onInterruption(): { signal: AbortSignal; ignore(): void } {
  const interrupted = new AbortController();
  const interrupt = () => {
    interrupted.abort(
      new CliError(
        'Interrupted. What has arrived is kept: run the command again to go on',
        exitCodes.interrupted,
      ),
    );
    // What cannot be broken off (a name that is being looked up) does not hold the process.
    setTimeout(() => process.exit(exitCodes.interrupted), 500).unref();
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  return {
    signal: interrupted.signal,
    ignore: () => void process.off('SIGINT', interrupt).off('SIGTERM', interrupt),
  };
}

async function verify(names: string[], locations: ModelLocations, asJson: boolean): Promise<void> {
  const wanted = names.map((name) => findModel(name).name);
  const pulled = (await listPulled(locations.modelsDir)).filter(
    ({ record }) => wanted.length === 0 || wanted.includes(record.name),
  );
  const absent = wanted.filter((name) => !pulled.some(({ record }) => record.name === name));
  if (pulled.length === 0 || absent.length > 0)
    throw new CliError(
      `${locations.modelsDir} has no pulled ${absent.join(', ') || 'model'}: ourvidz models pull fetches one`,
      exitCodes.notFound,
    );
  const view = createTransferView(
    pulled.reduce((sum, { record }) => sum + record.files.reduce((bytes, { size }) => bytes + size, 0), 0),
  );
  const results: Array<{ name: string; folder: string; commit: string; problems: string[] }> = [];
  for (const each of pulled)
    results.push({
      name: each.record.name,
      folder: each.folder,
      commit: each.record.commit,
      problems: await verifyFolder(each, view.add),
    });
  view.stop();
  print(asJson, results, () =>
    results
      .map(({ name, folder, problems }) =>
        problems.length === 0
          ? `${name}: all as published (${folder})`
          : `${name}: ${problems.join('; ')}. Remove ${folder} and run ourvidz models pull ${name}`,
      )
      .join('\n'),
  );
  if (results.some(({ problems }) => problems.length > 0)) process.exitCode = exitCodes.failed;
}
