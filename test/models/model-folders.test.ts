import path from 'node:path';
import t from 'tap';
import { findModelFolders } from '../../src/services/models/model-folders.js';

t.test('finds engines in the reference layout and the pocket layout', async (t) => {
  const reference = t.testdir({
    'Qwen2.5-7B': {},
    'Qwen2.5-7B-Instruct': {},
    'sdxl-lustify': {},
    'wan2.1-t2v-1.3b': {},
    'wan-other': {},
    'sdxl.txt': '',
  });
  t.same(await findModelFolders(reference), {
    sdxl: { dir: path.join(reference, 'sdxl-lustify') },
    wan: { dir: path.join(reference, 'wan2.1-t2v-1.3b') },
    qwen: {
      dir: path.join(reference, 'Qwen2.5-7B-Instruct'),
      completionDir: path.join(reference, 'Qwen2.5-7B'),
    },
  });
  const alone = t.testdir({ 'qwen2.5-14b-instruct': {} });
  t.match((await findModelFolders(alone)).qwen, {
    dir: path.join(alone, 'qwen2.5-14b-instruct'),
    completionDir: undefined,
  });
  const pocket = t.testdir({ sdxl: {}, qwen: {} });
  t.match(await findModelFolders(pocket), {
    sdxl: { dir: path.join(pocket, 'sdxl') },
    wan: { dir: null, reason: /there is no wan model folder in/ },
    qwen: { dir: path.join(pocket, 'qwen') },
  });
  t.match(await findModelFolders(path.join(pocket, 'nowhere')), {
    sdxl: { dir: null, reason: /nowhere \(ENOENT\)/ },
  });
});
