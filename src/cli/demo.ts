import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { type Client, createClient } from '../../client/index.js';
import { asCliError, readGeneratedKey } from './client.js';
import { buildPayload, localUserId } from './commands/generate.js';
import { followJob, hasDesktop, notesFor, openFile, saveAssets, sentenceOf } from './job-view.js';
import { writeLine } from './output.js';
import { createProgressDisplay } from './progress-view.js';
import { findFreePort, ownProgram } from '../lib/processes.js';
import { readEnvironment } from '../lib/environment.js';
import { keepPrivate } from '../lib/data-folder.js';

/**
 * `npm run demo [-- "a prompt"] [-- --exit]`: the whole service on embedded defaults (its own queue, folder
 * storage, the small models that ship with it), one job through it, and the picture. Opens the console in the
 * browser and keeps serving until Ctrl-C, unless `--exit`.
 */

const defaultPort = 7860;
/** First start on a slow machine included; after this something is wrong and the reason is shown. */
const pictureTimeoutMs = 180_000;
/**
 * Settings that would connect the demo to other systems; it runs on embedded parts whatever the environment
 * says.
 */
const connectedSettings = [
  'REDIS_URL',
  'UPSTASH_REDIS_REST_URL',
  'UPSTASH_REDIS_REST_TOKEN',
  'SUPABASE_URL',
  'SUPABASE_SERVICE_KEY',
  'CALLBACK_URL',
  'METRICS_URL',
  'STORAGE',
  'RUNPOD_POD_ID',
];

const settings = readEnvironment();

const program = new Command('npm run demo --')
  .description('Starts the service on embedded defaults, draws one picture and keeps serving.')
  .argument('[prompt]', 'what to draw', 'a red circle above a blue square')
  .option('--exit', 'end after the picture')
  .option('--no-open', 'do not open the console in the browser')
  .action(runDemo);
await program.parseAsync();

async function runDemo(prompt: string, options: { exit?: boolean; open: boolean }): Promise<void> {
  const startedAtMs = Date.now();
  const port = await findFreePort(Number(settings['PORT'] ?? defaultPort));
  const url = `http://127.0.0.1:${port}`;
  const dataDir = path.resolve(settings['DATA_DIR'] ?? 'data');
  const logFile = path.join(dataDir, 'demo.log');
  await keepPrivate(dataDir);

  writeLine(`Starting the service at ${url} (log: ${logFile})`);
  const service = startService(port, dataDir, logFile);
  // SIGHUP: its window was closed.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => service.kill(signal));
  const ended = new Promise<number>((resolve) => service.once('exit', (code) => resolve(code ?? 0)));
  const giveUp = new AbortController();
  let videos = false;
  try {
    const noService = ended.then(async (code) => {
      throw new Error(`The service ended with code ${code}:\n${await lastLines(logFile)}`);
    });
    const drawn = await Promise.race([noService, drawPicture(url, dataDir, prompt, giveUp.signal)]);
    videos = drawn.videos;
    writeLine(`\nThe picture: ${drawn.file}`);
    writeLine(`It took ${((Date.now() - startedAtMs) / 1000).toFixed(1)} s from the start of the service.`);
    for (const line of drawn.said) writeLine(line);
  } catch (error) {
    writeLine(`\n${asCliError(error).message}`);
    giveUp.abort();
    process.exitCode = 1;
  }
  if (options.exit || process.exitCode === 1) {
    service.kill('SIGTERM');
    await ended;
    return;
  }
  const flag = port === defaultPort ? '' : ` --url ${url}`;
  const { link, expires_in: seconds } = await clientOf(url, dataDir).createLoginLink();
  writeLine(`The console: ${url}${link}`);
  const opens = options.open && hasDesktop();
  if (opens) openFile(url + link);
  writeLine(
    opens
      ? 'It opens in the browser, signed in ("--no-open" leaves that to you)'
      : `(the link signs in once, within ${seconds / 60} minutes)`,
  );
  writeLine(`Later ${url} asks for the key in ${path.join(dataDir, 'api-key')}`);
  writeLine(
    `Draw more in another terminal: npx ourvidz generate "two green stars on a black background"${flag}`,
  );
  if (videos)
    writeLine(`Or a video: npx ourvidz generate --type video_fast "a red circle moves left"${flag}`);
  writeLine('Serving until Ctrl-C.');
  process.exitCode = await ended;
}

function startService(port: number, dataDir: string, logFile: string): ChildProcess {
  // Set to nothing rather than left out: a .env file fills in only what is absent.
  const disconnected = Object.fromEntries(connectedSettings.map((name) => [name, '']));
  const child = spawn(process.execPath, ownProgram('src/server'), {
    env: { ...settings, ...disconnected, HOST: '127.0.0.1', PORT: String(port), DATA_DIR: dataDir },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Ctrl-C reaches the service once, through the handlers above, not a second time through the terminal's
    // group.
    detached: true,
  });
  const log = createWriteStream(logFile);
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  return child;
}

async function drawPicture(
  url: string,
  dataDir: string,
  prompt: string,
  signal: AbortSignal,
): Promise<{ file: string; said: string[]; videos: boolean }> {
  const timeout = AbortSignal.timeout(pictureTimeoutMs);
  const deadline = AbortSignal.any([signal, timeout]);
  await waitForHealth(url, deadline);
  const client = clientOf(url, dataDir);
  const id = randomUUID();
  writeLine(`Drawing "${prompt}"`);
  await client.createJob({
    body: buildPayload(id, prompt, { type: 'sdxl_image_fast', user: localUserId, output: '', wait: true }),
    'Idempotency-Key': id,
  });
  const display = createProgressDisplay();
  try {
    const job = await followJob(client, id, display, deadline);
    if (job.status !== 'completed')
      throw new Error(`The job ${job.status}: ${job.error_message ?? 'no reason given'}`);
    const [file] = await saveAssets(client, job, prompt, path.join(dataDir, 'demo'));
    if (file === undefined) throw new Error('The job completed without a picture');
    const said = await notesFor(client, job);
    return {
      file,
      said: said.length > 0 ? said : await sentenceOf(client, job),
      videos: await canMakeVideos(client),
    };
  } catch (error) {
    if (timeout.aborted)
      throw new Error(
        `No picture after ${pictureTimeoutMs / 1000} s. The service says: ${await readiness(client)}`,
      );
    throw error;
  } finally {
    display.stop();
  }
}

// A declaration: the command above runs before a constant down here would have a value.
function clientOf(url: string, dataDir: string): Client {
  return createClient({ url, key: settings['WAN_WORKER_API_KEY'] ?? readGeneratedKey(dataDir) });
}

async function waitForHealth(url: string, deadline: AbortSignal): Promise<void> {
  for (;;) {
    const answer = await fetch(`${url}/health`, { signal: deadline }).catch(() => undefined);
    if (answer?.ok) return;
    await sleep(50, undefined, { signal: deadline });
  }
}

/** With the models and the encoder that are here. */
async function canMakeVideos(client: Client): Promise<boolean> {
  const { job_types: types } = await client.getCapabilities();
  return types['video_fast']?.available === true;
}

async function readiness(client: Client): Promise<string> {
  return client.getReady().then(
    (body) => JSON.stringify(body),
    (error: unknown) => asCliError(error).message,
  );
}

async function lastLines(file: string): Promise<string> {
  return (await readFile(file, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-20).join('\n');
}
