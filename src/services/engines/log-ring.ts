/** The last `limit` lines an engine wrote, over restarts, newest last. */
export function createLogRing(limit = 200) {
  const lines: string[] = [];
  return {
    push(line: string): void {
      lines.push(line.length > 4000 ? `${line.slice(0, 4000)}…` : line);
      if (lines.length > limit) lines.splice(0, lines.length - limit);
    },
    lines: (): string[] => [...lines],
  };
}
export type LogRing = ReturnType<typeof createLogRing>;
