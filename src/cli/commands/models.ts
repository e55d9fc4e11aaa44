import type { Command } from 'commander';
import {
  chooseQuantisation,
  findModel,
  ggufMemoryBytes,
  type PublishedModel,
  readCatalogue,
} from '../models/catalogue.js';
import { listPulled, type PulledFolder, verifyFolder } from '../models/files.js';
import { createHub } from '../models/hub.js';
import { findModelLocations, type ModelLocations } from '../models/locations.js';
import { gigabytes, planPull, type PullPlan, requireSpace, runPull } from '../models/pull.js';
import { CliError, exitCodes, formatTable, print } from '../output.js';
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
An interrupted pull goes on where it ended: run the same command again. Every file is checked against the hub's checksum.
Environment: MODELS_DIR, HF_ENDPOINT (a mirror), HF_TOKEN (gated or private repositories, higher limits), HF_HOME (token, cache of other tools), HTTPS_PROXY.

Examples:
  $ ourvidz models pull sdxl --to /srv/models
  $ ourvidz models pull qwen2.5-7b-instruct --quant q5_k_m`,
    )
    .action(async (name: string, flags: PullFlags, command: Command) => pull(name, flags, isJson(command)));

  models
    .command('verify')
    .description(
      'read pulled models again and compare every byte with what the hub announced; exit code 1 when one differs',
    )
    .argument('[names...]', 'only these')
    .option('--to <folder>', 'models folder (MODELS_DIR)')
    .action(async (names: string[], flags: { to?: string }, command: Command) =>
      verify(names, findModelLocations(flags.to), isJson(command)),
    );
}

async function pull(name: string, flags: PullFlags, asJson: boolean): Promise<void> {
  const model = findModel(name);
  const quantisation = chooseQuantisation(model, flags.quant);
  const locations = findModelLocations(flags.to);
  const hub = createHub(locations);
  const interrupted = new AbortController();
  const onInterrupt = () =>
    interrupted.abort(
      new CliError(
        'Interrupted. What has arrived is kept: run the command again to go on',
        exitCodes.interrupted,
      ),
    );
  process.once('SIGINT', onInterrupt).once('SIGTERM', onInterrupt);
  try {
    const plan = await planPull(model, { quantisation, revision: flags.revision, hub, locations });
    if (flags.dryRun === true) {
      print(asJson, summary(plan), () => describePlan(plan));
      await requireSpace(plan);
      return;
    }
    if (plan.standing === 'same') {
      print(
        asJson,
        summary(plan),
        () =>
          `${model.name} is here already: ${plan.folder} (ourvidz models verify ${model.name} reads it again)`,
      );
      return;
    }
    process.stderr.write(`${describePlan(plan)}\n`);
    const view = createTransferView(plan.totalBytes);
    try {
      await runPull(plan, {
        hub,
        cacheDir: locations.cacheDir,
        force: flags.force === true,
        signal: interrupted.signal,
        onBytes: view.add,
        note: view.note,
      });
    } catch (error) {
      throw interrupted.signal.aborted ? interrupted.signal.reason : error;
    } finally {
      view.stop();
    }
    print(asJson, summary(plan), () => describeNext(plan, locations));
  } finally {
    process.off('SIGINT', onInterrupt).off('SIGTERM', onInterrupt);
    await hub.close();
  }
}

async function verify(names: string[], locations: ModelLocations, asJson: boolean): Promise<void> {
  const wanted = names.map((name) => findModel(name).name);
  const pulled = (await listPulled(locations.modelsDir)).filter(
    ({ record }) => wanted.length === 0 || wanted.includes(record.name),
  );
  const absent = wanted.filter((name) => !pulled.some(({ record }) => record.name === name));
  if (pulled.length === 0 || absent.length > 0)
    throw new CliError(
      `${absent.join(', ') || 'No model'} was pulled into ${locations.modelsDir}`,
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
          : `${name}: ${problems.join('; ')}. Cure: ourvidz models pull ${name} --force after removing ${folder}`,
      )
      .join('\n'),
  );
  if (results.some(({ problems }) => problems.length > 0)) process.exitCode = exitCodes.failed;
}

function summary(plan: PullPlan) {
  const { model, quantisation, commit, folder, totalBytes, presentBytes, standing, files } = plan;
  return {
    name: model.name,
    repository: model.repository,
    commit,
    quantisation: quantisation ?? null,
    folder,
    standing,
    total_bytes: totalBytes,
    present_bytes: presentBytes,
    files,
  };
}

function describePlan({
  model,
  commit,
  quantisation,
  files,
  folder,
  totalBytes,
  presentBytes,
}: PullPlan): string {
  const memory =
    model.quantisations === undefined
      ? ''
      : `\nNeeds about ${gigabytes(ggufMemoryBytes(model, totalBytes, 1))} of memory for one prompt, ${gigabytes(ggufMemoryBytes(model, totalBytes))} for eight at once.`;
  return `${model.title}${quantisation === undefined ? '' : `, ${quantisation}`}\n${model.repository} at ${commit.slice(0, 12)}, ${model.licence}\n${files.length} files, ${gigabytes(totalBytes)}${presentBytes > 0 ? `, ${gigabytes(presentBytes)} of them here` : ''} -> ${folder}${memory}`;
}

function describeNext(
  { model, folder, totalBytes }: PullPlan,
  { modelsDir, isDefault }: ModelLocations,
): string {
  const fill = (text: string) => text.replaceAll('{source}', folder).replaceAll('{models}', modelsDir);
  const lines = [`${model.name}: ${gigabytes(totalBytes)} in ${folder}, every file checked`];
  lines.push(...(model.notes ?? []));
  if (model.then !== undefined)
    lines.push(
      'These are weights, not yet a model folder. Next (docs/models.md says what it needs):',
      ...model.then.map((text) => `  ${fill(text)}`),
    );
  if (isDefault) lines.push(`Start the service with MODELS_DIR=${modelsDir} to use it.`);
  return lines.join('\n');
}

function describeAll(
  models: readonly PublishedModel[],
  pulled: readonly PulledFolder[],
  locations: ModelLocations,
): string {
  const state = (model: PublishedModel) => {
    const here = pulled.find(({ record }) => record.name === model.name);
    return here === undefined
      ? ''
      : `here${here.record.quantisation === undefined ? '' : ` (${here.record.quantisation})`}`;
  };
  const rows = models.map((model) => [
    model.name,
    model.engine,
    model.kind === 'ready' ? 'runs as it is' : 'to export',
    gigabytes(model.bytes),
    state(model),
    model.title,
  ]);
  return `${formatTable(['NAME', 'ENGINE', 'FORM', 'SIZE', 'STATE', 'WHAT'], rows)}\n\nModels folder: ${locations.modelsDir}`;
}

function describeModel(model: PublishedModel): string {
  const lines = [
    model.title,
    `https://huggingface.co/${model.repository} at ${model.revision}, ${model.licence}`,
    ...(model.notes ?? []),
  ];
  if (model.memoryBytes !== undefined) lines.push(`Needs about ${gigabytes(model.memoryBytes)} of memory.`);
  if (model.then !== undefined) lines.push('After the download:', ...model.then.map((text) => `  ${text}`));
  if (model.quantisations !== undefined) {
    const { bytes, default: chosen } = model.quantisations;
    lines.push(
      '',
      formatTable(
        ['QUANT', 'DOWNLOAD', 'MEMORY, ONE PROMPT', 'MEMORY, EIGHT'],
        Object.entries(bytes).map(([quant, size]) => [
          quant === chosen ? `${quant} (default)` : quant,
          gigabytes(size),
          gigabytes(ggufMemoryBytes(model, size, 1)),
          gigabytes(ggufMemoryBytes(model, size)),
        ]),
      ),
    );
  }
  return lines.join('\n');
}
