import { Readable } from 'node:stream';
import t from 'tap';
import { reportTap } from '../../tools/test-run/report.js';
import { runFiles } from '../../tools/test-run/run-files.js';
import { isFast, withImports } from '../../tools/test-run/test-files.js';
import { commandsNamedIn } from '../../tools/test-run/system-packages.js';

const stream = `TAP version 14
1..2
# Subtest: dist/test/a.test.js
    # Subtest: group
        # two cases wait for the wan engine
        ok 1 - fine
        not ok 2 - differs
          ---
          at:
            fileName: a.ts
            lineNumber: 4
          diff: |
            -2
            +1
          ...
        1..2
    not ok 1 - group
    ok 2 - elsewhere # SKIP redis-server is not installed
    1..2
not ok 1 - dist/test/a.test.js # time=12ms
# Subtest: dist/test/b.test.js
    ok 1 - fine
    1..1
ok 2 - dist/test/b.test.js # time=1500ms
`;

t.test(
  'the report counts test points, names failures with their place, and lists skips with their reason',
  async (t) => {
    const lines: string[] = [];
    const summary = await reportTap(Readable.from([stream]), (line) => lines.push(line));
    t.same(summary, {
      passed: 2,
      failed: 1,
      skipped: [{ name: 'dist/test/a.test.js > elsewhere', reason: 'redis-server is not installed' }],
    });
    t.equal(lines.shift(), '     # two cases wait for the wan engine');
    t.match(lines[0], /^FAIL dist\/test\/a\.test\.js {2}1 passed, 1 failed, 1 skipped/);
    t.match(lines.join('\n'), /✖ group > differs\n\s+at a\.ts:4\n\s+diff:\n\s+-2\n\s+\+1/);
    t.match(lines.at(-1), /^ok {3}dist\/test\/b\.test\.js {2}1 passed/);
  },
);

t.test('programs a test names in quotes are the ones to install', async (t) => {
  // Put together here: this file must not name the program in single quotes itself, or it would be installed
  // for it.
  const command = ['ff', 'mpeg'].join('');
  const folder = t.testdir({
    'a.test.js': `requireCommand('${command}')`,
    'b.test.js': '// speaks of chromium only in passing',
  });
  t.same(commandsNamedIn([`${folder}/a.test.js`, `${folder}/b.test.js`]), [command]);
});

t.test('a file that ends badly without a failed test point counts as one failure', async (t) => {
  const folder = t.testdir({
    'good.js': "console.log('TAP version 14\\nok 1 - fine\\n1..1')",
    'killed.js': "console.log('TAP version 14\\nok 1 - so far'); process.kill(process.pid, 'SIGKILL')",
    'wrong.js': "console.log('TAP version 14\\nnot ok 1 - no\\n1..1'); process.exitCode = 1",
  });
  const lines: string[] = [];
  const stream = runFiles(['good.js', 'killed.js', 'wrong.js'], { cwd: folder, jobs: 1 });
  const summary = await reportTap(stream, (line) => lines.push(line));
  t.match(summary, { passed: 2, failed: 2, skipped: [] });
  t.match(
    lines.join('\n'),
    /ok {3}good\.js[^]*FAIL killed\.js[^]*the file ended with SIGKILL[^]*FAIL wrong\.js/,
  );
});

t.test('the fast set leaves out what starts something, also through a helper', async (t) => {
  const folder = t.testdir({
    test: {
      'helper.ts': "import { spawn } from 'node:child_process';",
      'direct.test.ts': "import { createServer } from 'node:http';",
      'through.test.ts': "import { start } from './helper.js';",
      'plain.test.ts': "import t from 'tap';",
    },
  });
  t.equal(withImports(`${folder}/test/through.test.ts`).size, 2);
  t.same(
    ['direct', 'through', 'plain'].map((name) => isFast(`${folder}/test/${name}.test.ts`)),
    [false, false, true],
  );
});
