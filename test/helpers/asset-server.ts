import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import sharp from 'sharp';

/** Pictures a job may refer to, as SVG of 128×128; served as PNG. */
const pictures: Readonly<Record<string, string>> = {
  'reference.png':
    '<rect width="128" height="128" fill="#204080"/><circle cx="64" cy="64" r="30" fill="#e0c020"/>',
  'first.png':
    '<rect width="128" height="128" fill="#ffffff"/><circle cx="24" cy="64" r="18" fill="#d02020"/>',
  'last.png':
    '<rect width="128" height="128" fill="#ffffff"/><circle cx="104" cy="64" r="18" fill="#d02020"/>',
};

/**
 * Serves `reference.png`, `first.png`, `last.png` and `text.txt` (not a picture), as the contract cases
 * expect of `{ASSET}`, and PNG files of the caller's by their names.
 */
export async function startAssetServer(more: Readonly<Record<string, Buffer>> = {}) {
  const files = new Map<string, { contentType: string; body: Buffer }>([
    ['/text.txt', { contentType: 'text/plain', body: Buffer.from('This is not a picture.\n') }],
  ]);
  for (const [name, shapes] of Object.entries(pictures)) {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128">${shapes}</svg>`;
    files.set(`/${name}`, { contentType: 'image/png', body: await sharp(Buffer.from(svg)).png().toBuffer() });
  }
  for (const [name, body] of Object.entries(more)) files.set(`/${name}`, { contentType: 'image/png', body });
  const requested: string[] = [];
  const server = createServer((request, response) => {
    requested.push(request.url ?? '');
    const file = files.get(request.url ?? '');
    if (!file) response.writeHead(404).end();
    else
      response
        .writeHead(200, { 'content-type': file.contentType, 'content-length': file.body.length })
        .end(file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    /** Host and port, as an allow list wants it. */
    host: `127.0.0.1:${port}`,
    requested,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export type AssetServer = Awaited<ReturnType<typeof startAssetServer>>;
