import { readFile } from 'node:fs/promises';
import { unwatchFile, watchFile } from 'node:fs';

/**
 * Follows a file that holds a public address, as tunnels write it: its first word, now and after every change. What is no
 * http address is left out. Polls, because change events of network volumes cannot be relied on. Returns the function that ends it.
 */
export function followUrlFile(file: string, onUrl: (url: string) => void, { intervalMs = 2000 } = {}): () => void {
  async function look(): Promise<void> {
    const [word = ''] = (await readFile(file, 'utf8').catch(() => '')).trim().split(/\s+/);
    if (/^https?:/.test(word) && URL.canParse(word)) onUrl(word);
  }
  const listener = () => void look();
  watchFile(file, { interval: intervalMs, persistent: false }, listener);
  void look();
  return () => unwatchFile(file, listener);
}
