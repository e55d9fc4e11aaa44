/** Pixels as 8-bit RGB rows, [height, width, 3]. */
export interface Picture {
  data: Uint8Array;
  width: number;
  height: number;
}

/** [3, height, width] in [-1, 1], as the graphs take pictures. */
export function toPlanes({ data, width, height }: Picture): Float32Array {
  const pixels = width * height;
  const planes = new Float32Array(pixels * 3);
  for (let i = 0; i < pixels; i += 1) {
    for (let channel = 0; channel < 3; channel += 1) planes[channel * pixels + i] = (data[i * 3 + channel] as number) / 127.5 - 1;
  }
  return planes;
}

/** The middle of a picture; the picture itself when it has that size. */
export function cropCentre(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const [left, top] = [Math.floor((picture.width - width) / 2), Math.floor((picture.height - height) / 2)];
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row += 1) {
    const from = ((top + row) * picture.width + left) * 3;
    data.set(picture.data.subarray(from, from + width * 3), row * width * 3);
  }
  return { data, width, height };
}

/** The pictures of a decoded chunk: round(255·(x/2 + 0.5)), halves to even. */
export function toPictures(chunk: Float32Array, width: number, height: number): Picture[] {
  const area = width * height;
  return Array.from({ length: chunk.length / (3 * area) }, (_, frame) => {
    // Uint8ClampedArray rounds halves to even and clamps to 0–255, which is the rule
    const data = new Uint8ClampedArray(area * 3);
    for (let channel = 0; channel < 3; channel += 1) {
      const from = (frame * 3 + channel) * area;
      for (let i = 0; i < area; i += 1) data[i * 3 + channel] = ((chunk[from + i] as number) / 2 + 0.5) * 255;
    }
    return { data: new Uint8Array(data.buffer), width, height };
  });
}
