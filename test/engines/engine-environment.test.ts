import t from 'tap';
import { engineEnvironment } from '../../src/services/engines/engine-options.js';

t.test('engines see what native runtimes read and no secret', async (t) => {
  const given = {
    PATH: '/bin',
    HOME: '/h',
    CUDA_VISIBLE_DEVICES: '0',
    LD_LIBRARY_PATH: '/l',
    OMP_NUM_THREADS: '2',
    SUPABASE_SERVICE_KEY: 's',
    WAN_WORKER_API_KEY: 'k',
    REDIS_URL: 'r',
    UPSTASH_REDIS_REST_TOKEN: 't',
    CALLBACK_SECRET: 'c',
    AWS_SECRET_ACCESS_KEY: 'a',
  };
  t.same(Object.keys(engineEnvironment(given)), [
    'CUDA_DEVICE_ORDER',
    'PATH',
    'HOME',
    'CUDA_VISIBLE_DEVICES',
    'LD_LIBRARY_PATH',
    'OMP_NUM_THREADS',
  ]);
  t.equal(engineEnvironment(given)['CUDA_DEVICE_ORDER'], 'PCI_BUS_ID', 'numbers are those of nvidia-smi');
  t.equal(engineEnvironment({ CUDA_DEVICE_ORDER: 'FASTEST_FIRST' })['CUDA_DEVICE_ORDER'], 'FASTEST_FIRST');
});
