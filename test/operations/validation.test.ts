import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { packageVersion, projectRoot } from '../../src/lib/project.js';
import { createGpuMonitor } from '../../src/services/card/gpu-monitor.js';
import { createRoomWatch } from '../../src/lib/data-folder.js';
import { asCheck, checkEntryPoints, checkGpu, checkPackages } from '../../src/services/operations/checks.js';
import { probeRoom } from '../../src/services/operations/machine-probes.js';
import { checkModelFolder, checkQwenFolder } from '../../src/services/operations/model-checks.js';
import { createValidation } from '../../src/services/operations/validation.js';

const signal = new AbortController().signal;

t.test('a complete model folder is ok; every missing or broken file is named with a cure', async (t) => {
  const root = path.join(t.testdir({}), 'sdxl');
  await cp(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), root, {
    recursive: true,
    dereference: true,
  });
  t.same(
    (await checkModelFolder('sdxl', root)(signal)).map(({ severity }) => severity),
    ['ok'],
  );
  // A tokenizer of many megabytes, whole and cut off.
  const tokenizer = path.join(root, 'tokenizer/vocab.json');
  const vocabulary = await readFile(tokenizer, 'utf8');
  const words = JSON.stringify(Array.from({ length: 1_000_000 }, (_, index) => [`word ${index}`, index]));
  for (const [content, severity] of [
    [words, 'ok'],
    [words.slice(0, -1), 'error'],
  ] as const) {
    await writeFile(tokenizer, content);
    const findings = await checkModelFolder('sdxl', root)(signal);
    t.same(
      findings.map((finding) => finding.severity),
      [severity],
    );
  }
  await writeFile(tokenizer, vocabulary);
  await writeFile(path.join(root, 'unet/config.json'), '{"half":');
  await writeFile(path.join(root, 'unet/model.onnx'), 'version https://git-lfs.github.com/spec/v1\n');
  await writeFile(path.join(root, 'tokenizer/merges.txt'), '');
  const findings = await checkModelFolder('sdxl', root)(signal);
  t.equal(findings.length, 3);
  t.ok(findings.every(({ severity, cure }) => severity === 'error' && cure !== undefined));
  t.match(findings.map(({ message }) => message).sort(), [
    /merges.txt is empty/,
    /config.json is not valid JSON/,
    /Git LFS pointer/,
  ]);
  t.match(await checkModelFolder('wan', path.join(root, 'absent'))(signal), [
    { message: /model_index.json is missing/ },
  ]);
});

t.test('qwen: a GGUF is known by its first bytes, none at all is only a warning', async (t) => {
  const root = t.testdir({ 'model.gguf': 'GGUF and weights' });
  t.match(await checkQwenFolder(root)(signal), [{ severity: 'ok' }]);
  await writeFile(path.join(root, 'model.gguf'), '<html>not found</html>');
  t.match(await checkQwenFolder(root)(signal), [{ severity: 'error', message: /not a GGUF/ }]);
  t.match(await checkQwenFolder(path.join(root, 'absent'))(signal), [{ severity: 'warning' }]);
});

t.test('data folder, packages, entry points, GPU', async (t) => {
  const root = t.testdir({ 'engine.js': '1', file: 'x' });
  const room = (folder: string) => asCheck(probeRoom(createRoomWatch(path.join(root, folder)))).run(signal);
  t.match(await room('data'), [{ subject: 'DATA_DIR', message: /GB are free/ }]);
  t.match(await room('file/below'), [
    { severity: 'error', message: /cannot be written/, cure: /Let the user of/ },
  ]);
  await t.rejects(createRoomWatch(path.join(root, 'file/below')).require(), {
    statusCode: 503,
    message: /cannot write its own files\. Let the user of/,
  });
  t.match(await checkPackages(['onnxruntime-node', 'no-such-package'])(signal), [
    { severity: 'ok', message: /^1\./ },
    { severity: 'error', cure: 'Run npm ci.' },
  ]);
  t.match(packageVersion('fastify'), /^5\./);
  t.match(await checkEntryPoints([path.join(root, 'engine.js'), path.join(root, 'gone.js')])(signal), [
    { severity: 'ok' },
    { severity: 'error' },
  ]);
  t.match(await checkGpu(createGpuMonitor({ probes: [] }))(signal), [{ severity: 'warning' }]);
});

t.test(
  'the report: an error spoils its check, a warning does not; a hanging or throwing check is a finding',
  async (t) => {
    const validation = createValidation({
      timeoutMs: 30,
      checks: [
        { name: 'gpu_availability', subject: 'gpu', run: checkGpu(createGpuMonitor({ probes: [] })) },
        {
          name: 'model_paths',
          subject: 'sdxl',
          run: async () => {
            throw new Error('disk gone');
          },
        },
        { name: 'environment_variables', subject: 'redis', run: () => new Promise(() => undefined) },
      ],
    });
    const report = await validation.run();
    t.equal(report.valid, false);
    t.same(report.checks, {
      environment_variables: false,
      model_paths: false,
      gpu_availability: true,
      python_dependencies: true,
      worker_scripts: true,
    });
    t.match(
      report.findings.find(({ subject }) => subject === 'redis'),
      { message: /no answer within/ },
    );
    t.match(
      report.findings.find(({ subject }) => subject === 'sdxl'),
      { message: 'disk gone' },
    );
  },
);
