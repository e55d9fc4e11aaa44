import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { crc32, deflateRawSync } from 'node:zlib';
import type { Test } from 'tap';

/** A zip file with these entries, deflated, as wheels are. */
export function zip(entries: Record<string, Buffer>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(entries)) {
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(content.length, 18);
    common.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), common, Buffer.from(name), packed]);
    const entry = Buffer.alloc(46);
    entry.write('PK\x01\x02', 0, 'latin1');
    entry.writeUInt16LE(20, 4);
    common.copy(entry, 6);
    entry.writeUInt32LE(offset, 42);
    directory.push(entry, Buffer.from(name));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(Object.keys(entries).length, 8);
  end.writeUInt16LE(Object.keys(entries).length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}

export const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');

export interface IndexFaults {
  /** Breaks a file's connection after so many bytes, once each. */
  breakAfter?: Map<string, number>;
  /** Bytes sent in place of a file's own. */
  altered?: Map<string, Buffer>;
  /** Answers pages as HTML (PEP 503) instead of JSON (PEP 691). */
  html?: boolean;
  status?: number;
}

/** A package index on this machine: its pages and files, with ranges, and faults to order. */
export async function startIndex(t: Test, files: Record<string, { project: string; content: Buffer }>) {
  const faults: IndexFaults = {};
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const route = decodeURIComponent(request.url ?? '');
    requests.push(`${route}${request.headers.range === undefined ? '' : ` ${request.headers.range}`}`);
    if (faults.status !== undefined) return response.writeHead(faults.status).end();
    const name = route.split('/').at(-1) ?? '';
    const file = files[name];
    if (route.startsWith('/simple/')) {
      const project = route.split('/')[2];
      const names = Object.keys(files).filter((each) => files[each]?.project === project);
      if (faults.html === true) {
        const links = names.map((each) => `<a href="../../files/${each}#sha256=0">${each}</a><br>`);
        return response.setHeader('content-type', 'text/html').end(`<html>${links.join('')}</html>`);
      }
      response.setHeader('content-type', 'application/vnd.pypi.simple.v1+json');
      return response.end(
        JSON.stringify({ files: names.map((each) => ({ filename: each, url: `/files/${each}` })) }),
      );
    }
    if (file === undefined) return response.writeHead(404).end();
    const content = faults.altered?.get(name) ?? file.content;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const rest = content.subarray(from);
    if (from > 0)
      response.setHeader('content-range', `bytes ${from}-${content.length - 1}/${content.length}`);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': rest.length });
    const limit = faults.breakAfter?.get(name);
    if (limit === undefined) return response.end(rest);
    faults.breakAfter?.delete(name);
    return response.write(rest.subarray(0, limit), () => setTimeout(() => response.destroy(), 50));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { origin, pypi: `${origin}/simple`, faults, requests };
}
