import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { formatCelsius, formatGigabytes, formatPercent } from '../../src/lib/units.js';
import { createGpuMonitor, type GpuReading } from '../../src/services/card/gpu-monitor.js';
import {
  createNvidiaSmiProbe,
  createSysfsProbe,
  parseComputeApps,
  parseNvidiaSmi,
} from '../../src/services/card/gpu-probes.js';

const gibibyte = 1024 ** 3;
const line = 'GPU-4f0c, NVIDIA RTX 6000 Ada Generation, 49140, 12800, 85, 72, 550.54.15, 287.31\n';

t.test('an nvidia-smi line becomes bytes, fractions and degrees', async (t) => {
  t.same(parseNvidiaSmi(line), {
    name: 'NVIDIA RTX 6000 Ada Generation',
    totalBytes: 49140 * 1024 * 1024,
    usedBytes: 12.5 * gibibyte,
    utilization: 0.85,
    temperatureCelsius: 72,
    powerWatts: 287.31,
    driver: '550.54.15',
  });
  t.match(parseNvidiaSmi('GPU-1, NVIDIA H200, [N/A], 5, [N/A], [N/A], 580.1, [N/A]'), {
    totalBytes: null,
    utilization: null,
    temperatureCelsius: null,
    powerWatts: null,
  });
  t.equal(parseNvidiaSmi(''), null);
});

t.test('a real command is run, and a missing, failing or hanging one reads as no GPU', async (t) => {
  const folder = t.testdir();
  const script = async (name: string, body: string) => {
    const file = path.join(folder, name);
    await writeFile(file, `#!/bin/sh\n${body}\n`);
    await chmod(file, 0o755);
    return file;
  };
  const good = await script('good', `printf '${line.trim()}\\n'`);
  t.match(await createNvidiaSmiProbe({ command: good }).read(), { name: 'NVIDIA RTX 6000 Ada Generation' });
  t.equal(await createNvidiaSmiProbe({ command: path.join(folder, 'absent') }).read(), null);
  t.equal(await createNvidiaSmiProbe({ command: await script('bad', 'exit 9') }).read(), null);
  t.equal(
    await createNvidiaSmiProbe({ command: await script('hang', 'exec sleep 30'), timeoutMs: 50 }).read(),
    null,
  );
});

t.test('CUDA_VISIBLE_DEVICES decides which card is measured', async (t) => {
  const file = path.join(t.testdir(), 'nvidia-smi');
  const cards = [
    'GPU-aaaa1111-0000, NVIDIA H100, 81559, 100, 1, 30, 580.1',
    'GPU-bbbb2222-0000, NVIDIA A100, 40960, 200, 2, 31, 580.1',
  ];
  const parts = [
    'GPU 0: NVIDIA H100 (UUID: GPU-aaaa1111-0000)',
    '  MIG 1g.10gb     Device  0: (UUID: MIG-cccc3333-0000)',
    'GPU 1: NVIDIA A100 (UUID: GPU-bbbb2222-0000)',
    '  MIG 3g.20gb+me  Device  0: (UUID: MIG-dddd4444-0000)',
  ];
  const print = (lines: string[]) => `printf '%s\\n' ${lines.map((each) => `'${each}'`).join(' ')}`;
  await writeFile(file, `#!/bin/sh\nif [ "$1" = -L ]; then ${print(parts)}; else ${print(cards)}; fi\n`);
  await chmod(file, 0o755);
  const seen: Array<[visible: string | undefined, name: string | null, bytes?: number]> = [
    [undefined, 'NVIDIA H100', 81559 * 2 ** 20],
    ['0', 'NVIDIA H100', 81559 * 2 ** 20],
    ['1', 'NVIDIA A100', 40960 * 2 ** 20],
    ['1,0', 'NVIDIA A100', 40960 * 2 ** 20],
    ['GPU-bbbb', 'NVIDIA A100', 40960 * 2 ** 20],
    ['GPU-bbbb2222-0000,GPU-aaaa1111-0000', 'NVIDIA A100', 40960 * 2 ** 20],
    ['MIG-cccc3333-0000', 'NVIDIA H100 (MIG 1g.10gb)', 0.97 * 10 * gibibyte],
    ['MIG-dddd4444-0000', 'NVIDIA A100 (MIG 3g.20gb+me)', 0.97 * 20 * gibibyte],
    ['', null],
    ['-1', null],
    ['7', null],
    ['GPU-eeee', null],
    ['MIG-eeee', null],
    ['none', null],
  ];
  for (const [visible, name, bytes] of seen) {
    const reading = await createNvidiaSmiProbe({ command: file, visible }).read();
    t.equal(reading?.name ?? null, name, String(visible));
    t.equal(reading?.totalBytes ?? undefined, bytes);
  }
});

t.test('memory by process: none is told where the driver hides it', async (t) => {
  t.same(
    [...(parseComputeApps('4711, 7412\n4712, 512\n') ?? [])],
    [
      [4711, 7412 * 2 ** 20],
      [4712, 512 * 2 ** 20],
    ],
  );
  t.same(
    [...(parseComputeApps('4711, 7412\n4712, 1\n4711, 88\n') ?? [])],
    [
      [4711, 7500 * 2 ** 20],
      [4712, 2 ** 20],
    ],
    'what a process holds on several cards is added up',
  );
  t.equal(parseComputeApps('4711, [N/A]\n'), null);
  t.equal(parseComputeApps(''), null);
});

t.test('sysfs states memory and load of the first card that knows them', async (t) => {
  const root = t.testdir();
  await mkdir(path.join(root, 'card0/device'), { recursive: true });
  t.equal(await createSysfsProbe(root).read(), null);
  const device = path.join(root, 'card1/device');
  await mkdir(device, { recursive: true });
  await writeFile(path.join(device, 'mem_info_vram_total'), `${24 * gibibyte}\n`);
  await writeFile(path.join(device, 'mem_info_vram_used'), `${6 * gibibyte}\n`);
  await writeFile(path.join(device, 'gpu_busy_percent'), '40\n');
  await mkdir(path.join(device, 'hwmon/hwmon3'), { recursive: true });
  await writeFile(path.join(device, 'hwmon/hwmon3/temp1_input'), '61000\n');
  await writeFile(path.join(device, 'hwmon/hwmon3/power1_average'), '145000000\n');
  t.match(await createSysfsProbe(root).read(), {
    name: 'card1',
    totalBytes: 24 * gibibyte,
    usedBytes: 6 * gibibyte,
    utilization: 0.4,
    temperatureCelsius: 61,
    powerWatts: 145,
  });
  t.equal(await createSysfsProbe(path.join(root, 'absent')).read(), null);
});

t.test("the monitor shares and caches readings, and the operator's total wins", async (t) => {
  let reads = 0;
  let clock = 0;
  const reading: GpuReading = {
    name: 'simulated',
    totalBytes: 48 * gibibyte,
    usedBytes: gibibyte,
    utilization: 0,
    temperatureCelsius: null,
    powerWatts: null,
    driver: null,
  };
  const absent = { source: 'absent', read: async () => null };
  const simulated = {
    source: 'simulated',
    read: async () => {
      reads += 1;
      return reading;
    },
  };
  const monitor = createGpuMonitor({
    probes: [absent, simulated],
    configuredTotalBytes: 24 * gibibyte,
    now: () => clock,
  });
  t.equal(monitor.source(), null);
  const [first] = await Promise.all([monitor.read(), monitor.read()]);
  t.match(first, { totalBytes: 24 * gibibyte });
  t.equal(monitor.source(), 'simulated');
  await monitor.read();
  t.equal(reads, 1);
  clock = 2001;
  await monitor.read();
  t.equal(reads, 2);
  t.equal(await createGpuMonitor({ probes: [absent] }).read(), null);
});

t.test('string forms of the reference', async (t) => {
  t.equal(formatGigabytes(12.5 * gibibyte), '12.5GB');
  t.equal(formatGigabytes(48 * gibibyte), '48GB');
  t.equal(formatGigabytes(0), '0GB');
  t.equal(formatGigabytes(null), 'unknown');
  t.equal(formatPercent(0.849), '85%');
  t.equal(formatPercent(null), 'unknown');
  t.equal(formatCelsius(71.6), '72°C');
  t.equal(formatCelsius(null), 'unknown');
});
