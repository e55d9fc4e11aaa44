/** Prints a result: JSON for scripts, else the text made for people. */
export function print(asJson: boolean, value: unknown, asText: () => string): void {
  process.stdout.write(`${asJson ? JSON.stringify(value, null, 2) : asText()}\n`);
}

/** Columns padded to their widest cell; missing values are shown as a dash. */
export function formatTable(headings: readonly string[], rows: ReadonlyArray<ReadonlyArray<unknown>>): string {
  const cells = [headings, ...rows].map((row) => row.map((cell) => (cell === undefined || cell === null || cell === '' ? '-' : String(cell).replace(/\s+/g, ' '))));
  const widths = headings.map((_, column) => Math.max(...cells.map((row) => [...(row[column] ?? '')].length)));
  return cells.map((row) => row.map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - [...cell].length))).join('  ').trimEnd()).join('\n');
}

/** `key: value` lines; nested values as JSON. */
export function formatFields(fields: Record<string, unknown>): string {
  const shown = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  const width = Math.max(0, ...shown.map(([key]) => key.length));
  return shown.map(([key, value]) => `${key.padEnd(width)}  ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`).join('\n');
}

export function shorten(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
