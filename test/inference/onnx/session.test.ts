import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { openSession } from '../../../src/inference/onnx/session.js';
import { onnxFile } from '../../operations/onnx-file.js';

t.test('numbers pass unchanged through graphs of every type the pipelines meet', async (t) => {
  for (const [type, code] of Object.entries({ float32: 1, int64: 7, float16: 10 })) {
    const file = path.join(t.testdir({}), `${type}.onnx`);
    await writeFile(file, onnxFile({ inputs: { x: [code, [3]] }, outputs: { y: [code, [3]] } }));
    const session = await openSession(file, { device: 'cpu', threads: 1 });
    const { y } = await session.run({ x: { data: [1, 2, -3], dims: [3] } }, ['y']);
    t.same([...y.data], [1, 2, -3], type);
    await session.release();
  }
});
