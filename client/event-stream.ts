/** One event of a stream of server-sent events. */
export interface StreamEvent {
  id: string | undefined;
  event: string;
  data: string;
}

/**
 * Reads server-sent events (WHATWG HTML, 9.2.6). Of its own, although packages do it: this folder runs as it is in a
 * browser and in Deno, without a bundler to find packages.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let frame: { id?: string; event?: string; data: string[] } = { data: [] };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A carriage return at the end may be half of a line break.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line !== '') {
          take(line);
          continue;
        }
        if (frame.data.length > 0)
          yield { id: frame.id, event: frame.event ?? 'message', data: frame.data.join('\n') };
        frame = { data: [] };
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }

  function take(line: string): void {
    const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (name === 'data') frame.data.push(value);
    else if (name === 'event') frame.event = value;
    else if (name === 'id') frame.id = value;
  }
}
