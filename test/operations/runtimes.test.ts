import t from 'tap';
import { checkEngines } from '../../src/services/operations/model-checks.js';
import { asCheck, checkNativeRuntimes } from '../../src/services/operations/checks.js';
import { probeFfmpeg } from '../../src/services/operations/machine-probes.js';
import { createVideoEncoder } from '../../src/lib/video-tools.js';
import type { EngineStatus } from '../../src/services/engines/engine-status.js';
import { engineStatus } from '../engines/support.js';

const signal = new AbortController().signal;

t.test('native runtimes load, each in a process of its own; one that dies is named', async (t) => {
  t.match(await checkNativeRuntimes()(signal), [
    { subject: 'onnxruntime-node (native)', severity: 'ok', message: /^cpu(, webgpu)?$/ },
    { subject: 'node-llama-cpp (native)', severity: 'ok', message: /^llama.cpp \S/ },
    { subject: 'sharp (native)', severity: 'ok', message: /^libvips \d/ },
  ]);
  const broken = {
    'onnxruntime-node': "throw new Error('libonnxruntime.so: wrong ELF class')",
    'node-llama-cpp': 'unused',
    sharp: "process.kill(process.pid, 'SIGSEGV'); await new Promise((resolve) => setTimeout(resolve, 5000))",
  };
  const findings = await checkNativeRuntimes(['onnxruntime-node', 'sharp'], broken)(signal);
  t.match(findings, [
    { severity: 'error', message: /wrong ELF class/, cure: /npm ci/ },
    { severity: 'error', cure: /npm ci/ },
  ]);
});

t.test('ffmpeg: the first that runs; none is a warning', async (t) => {
  const probe = probeFfmpeg(createVideoEncoder({ command: 'no-such-ffmpeg' }));
  t.match(await asCheck(probe).run(signal), [
    { severity: 'warning', message: /Videos cannot be encoded/, cure: /FFMPEG/ },
  ]);
});

t.test('engines: state, device notes and what to do', async (t) => {
  const check = (fields: Partial<EngineStatus>) =>
    checkEngines({ has: (kind) => kind === 'sdxl', status: () => engineStatus(fields) })(signal);
  const loaded = {
    device: 'cpu' as const,
    deviceNotes: ['cuda: libcudnn.so.9 is missing'],
    loadSeconds: 1,
    model: { name: 'pocket', features: [] },
  };
  t.match(await check({ loaded }), [
    { severity: 'ok', message: 'ready on cpu with pocket' },
    { check: 'gpu_availability', severity: 'warning', message: /libcudnn/ },
  ]);
  t.match(await check({ state: 'failed', reason: 'unet: input sample has shape [1,9,8,8]' }), [
    { severity: 'error', message: /has failed.*shape/, cure: /restart\/sdxl/ },
  ]);
  t.match(await check({ state: 'warming' }), [{ severity: 'warning' }]);
  t.match(await check({ state: 'stopped', resting: true, reason: 'stopped to make room for wan' }), [
    { severity: 'ok' },
  ]);
  t.match(await check({ state: 'stopped', reason: 'not started yet' }), [{ severity: 'warning' }]);
});
