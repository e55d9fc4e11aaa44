import { Parser, type FinalResults, type Result } from 'tap-parser';
import type { Readable } from 'node:stream';

export interface TestSummary {
  passed: number;
  failed: number;
  /** Full name of each test point that was skipped or marked as to do, with the reason. */
  skipped: Array<{ name: string; reason: string }>;
}

/**
 * Reads the TAP stream of a run, prints one line per test file and every failure in full, and counts the test
 * points.
 */
export function reportTap(stream: Readable, say: (line: string) => void): Promise<TestSummary> {
  const summary: TestSummary = { passed: 0, failed: 0, skipped: [] };
  const files = new Map<string, FileReport>();
  const parser = new Parser();
  /**
   * What a test says by `t.comment`, at any depth; the parser's own remarks on time and counts are left out.
   */
  const showComments = (group: Parser) => {
    group.on('comment', (comment: string) => {
      if (!/^# (Subtest|time=|\{)/.test(comment)) say(`     ${comment.trim()}`);
    });
    group.on('child', showComments);
  };
  parser.on('child', (child: Parser) => {
    showComments(child);
    child.on('complete', (results: FinalResults) => {
      const report = files.get(child.name) ?? { passed: 0, skipped: 0, failures: [] };
      const seconds = ((results.time ?? 0) / 1000).toFixed(1);
      const skips = report.skipped > 0 ? `, ${report.skipped} skipped` : '';
      say(
        `${results.ok ? 'ok  ' : 'FAIL'} ${child.name}  ${report.passed} passed${report.failures.length > 0 ? `, ${report.failures.length} failed` : ''}${skips}  ${seconds} s`,
      );
      for (const failure of report.failures)
        for (const line of describeFailure(failure)) say(`       ${line}`);
    });
  });
  parser.on('result', (result: Result) => {
    const [file = ''] = result.fullname.split(' > ');
    const report = files.get(file) ?? { passed: 0, skipped: 0, failures: [] };
    files.set(file, report);
    const omitted = result.skip || result.todo;
    if (omitted) {
      report.skipped += 1;
      summary.skipped.push({ name: result.fullname, reason: omitted === true ? 'no reason given' : omitted });
    } else if (result.ok) {
      report.passed += 1;
      summary.passed += 1;
    } else {
      report.failures.push(result);
      summary.failed += 1;
    }
  });
  return new Promise((resolve, reject) => {
    parser.on('complete', () => resolve(summary));
    stream.on('error', reject);
    stream.pipe(parser);
  });
}

interface FileReport {
  passed: number;
  skipped: number;
  failures: Result[];
}

/** Name, place and difference of a failed test point; other diagnostics as JSON. */
function describeFailure(result: Result): string[] {
  const lines = [`✖ ${result.fullname.split(' > ').slice(1).join(' > ') || result.name}`];
  const diagnostics = (result.diag ?? {}) as Record<string, unknown>;
  const indent = (text: string) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => `    ${line}`);
  const at = diagnostics['at'] as { fileName?: string; lineNumber?: number } | undefined;
  if (at?.fileName) lines.push(`    at ${at.fileName}:${at.lineNumber ?? '?'}`);
  for (const [key, value] of Object.entries(diagnostics)) {
    if (key === 'at' || value === undefined || value === null) continue;
    lines.push(
      ...(typeof value === 'string' && value.includes('\n')
        ? [`    ${key}:`, ...indent(value)]
        : [`    ${key}: ${typeof value === 'string' ? value : JSON.stringify(value)}`]),
    );
  }
  return lines.slice(0, maxFailureLines);
}

const maxFailureLines = 80;
