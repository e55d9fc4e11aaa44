import { execFile } from 'node:child_process';
import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/project-root.js';

function doctor(cwd: string, environment: NodeJS.ProcessEnv): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [path.join(projectRoot(), 'dist/src/cli/main.js'), 'doctor', '--local'], { cwd, env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }));
  });
}

const file = (name: string) => [name, name.endsWith('.gguf') ? 'GGUF' : '{}'];
const folder = (names: string[]) => {
  const root: Record<string, unknown> = {};
  for (const name of names) {
    const parts = name.split('/');
    let at = root;
    for (const part of parts.slice(0, -1)) at = (at[part] ??= {}) as Record<string, unknown>;
    const [key = '', content] = file(parts.at(-1) ?? '');
    at[key] = content;
  }
  return root as Record<string, string>;
};
const sdxl = ['model_index.json', 'scheduler/scheduler_config.json', 'unet/config.json', 'unet/model.onnx', 'vae_decoder/model.onnx',
  'text_encoder/model.onnx', 'text_encoder_2/model.onnx', 'tokenizer/vocab.json', 'tokenizer/merges.txt', 'tokenizer_2/vocab.json', 'tokenizer_2/merges.txt'].map((name) => `sdxl/${name}`);

t.test('the exit code says how bad it is', async (t) => {
  const cwd = t.testdir({ complete: folder(sdxl), broken: folder(sdxl.slice(1)) });
  const warned = await doctor(cwd, { MODELS_DIR: path.join(cwd, 'complete') });
  t.equal(warned.code, 8, 'no WAN model: works with less');
  t.match(warned.stdout, /WARN +wan .*no wan model folder/);
  const failed = await doctor(cwd, { MODELS_DIR: path.join(cwd, 'broken') });
  t.equal(failed.code, 1);
  t.match(failed.stdout, /ERROR +sdxl .*model_index\.json is missing .*docs\/models\.md/);
  const misconfigured = await doctor(cwd, { PORT: 'x', REDIS_URL: 'redis://127.0.0.1' });
  t.equal(misconfigured.code, 1, 'a wrong environment is a finding, not a crash');
  t.match(misconfigured.stdout, /ERROR +PORT[^]*ERROR +WAN_WORKER_API_KEY/);
});
