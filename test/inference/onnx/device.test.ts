import path from 'node:path';
import t from 'tap';
import type { Device } from '../../../src/inference/engine-protocol.js';
import {
  chooseDevice,
  compareWithCpu,
  explainDevice,
  findCudaLibraries,
  missingLibraries,
  wrongOperators,
} from '../../../src/inference/onnx/device.js';
import { projectRoot } from '../../../src/lib/project.js';

const graph = path.join(projectRoot(), 'models/pocket/sdxl/text_encoder/model.onnx');
const order: Device[] = ['cuda', 'webgpu', 'cpu'];

t.test(
  'auto takes the first device that opens the model and says of each before it why not, with a cure',
  async (t) => {
    const { device, notes } = await chooseDevice('auto', graph, 1);
    t.equal(notes.length, order.indexOf(device));
    for (const [index, note] of notes.entries()) {
      t.match(
        note,
        new RegExp(`^${order[index]} is not used: [^\\n]+\\. (Install|Run|Check|Nothing)`),
        'a reason and a cure on one line',
      );
      t.notMatch(note, /onnxruntime_src/, 'no source paths of the runtime');
    }
    t.strictSame(await chooseDevice('cpu', graph, 1), { device: 'cpu', notes: [] });
  },
);

t.test('a device that was asked for and does not open is an error, never another device', async (t) => {
  const { device } = await chooseDevice('auto', graph, 1);
  for (const wanted of order.slice(0, order.indexOf(device)))
    await t.rejects(chooseDevice(wanted, graph, 1), {
      code: 'engine_failed',
      message: new RegExp(`^${wanted} is not used`),
    });
  await t.rejects(chooseDevice('cpu', path.join(projectRoot(), 'package.json'), 1), {
    code: 'engine_failed',
    message: /^cpu is not used: .*ourvidz models verify/,
  });
});

t.test(
  'a missing CUDA library is named with what to install',
  { skip: process.platform !== 'linux' || process.arch !== 'x64' ? 'CUDA is for Linux on x64' : false },
  async (t) => {
    const folder = (await findCudaLibraries()).folder;
    t.match(folder, /onnxruntime-node\/bin\/napi-v6\/linux\/x64$/);
    t.match(
      explainDevice('cuda', '', { folder, installed: false, missing: [] }),
      /its provider is not here\. Run npx ourvidz setup cuda/,
    );
    // as ldd of glibc 2.36 prints it
    const missing = missingLibraries(`	linux-vdso.so.1 (0x00007ffd)
	libcublasLt.so.12 => not found
	libcublas.so.12 => not found
	libcudnn.so.9 => not found
	libonnxruntime_providers_shared.so => not found
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)
`);
    t.strictSame(missing, ['libcublasLt.so.12', 'libcublas.so.12', 'libcudnn.so.9']);
    const cuda = { folder, installed: true, missing };
    t.match(
      explainDevice('cuda', '', cuda),
      /does not find libcublasLt\.so\.12 \(of nvidia-cublas-cu12\), .*libcudnn\.so\.9 \(of nvidia-cudnn-cu13.*Run npx ourvidz setup cuda/,
    );
    t.match(
      explainDevice('cuda', '', { folder, installed: true, missing: ['libcuda.so.1'] }),
      /libcuda\.so\.1 is not here; it belongs to the NVIDIA driver\. .*--gpus all/,
    );
    const { device, notes } = await chooseDevice('auto', graph, 1, async () => cuda);
    t.not(device, 'cuda', 'not even tried');
    t.match(notes[0], /does not find libcublasLt/);
    t.match(
      explainDevice('cuda', 'CUDA failure 100: no CUDA-capable device is detected ; GPU=0', {
        folder,
        installed: true,
        missing: [],
      }),
      /did not start \(CUDA failure 100.*nvidia-smi/,
    );
  },
);

t.test(
  'the check graph computes the same on the CPU as on the CPU, and a wrong operator is named',
  async (t) => {
    const same = await compareWithCpu('cpu');
    t.same(
      Object.values(same),
      Object.values(same).map(() => 0),
    );
    t.ok(Object.keys(same).length >= 3);
    t.same(wrongOperators(same), []);
    t.match(wrongOperators({ MatMul: 0.5, Conv: 1e-3, Attention: NaN }), [
      /^MatMul is off by 0\.5/,
      /^Attention is off/,
    ]);
  },
);
