/**
 * Form of a mask by its overlap with ideal forms, both scaled to fill their bounding boxes: thin tips and
 * small shapes keep what tells them apart.
 */

import { nameOf, thinForms } from './picture.js';

/** A mask of rows; 1 is inside. */
export interface Mask {
  cells: Uint8Array;
  width: number;
  height: number;
}

const side = 96;

function idealForms(): Array<{ name: string; box: Uint8Array; ratio: number }> {
  const grid = 600;
  const sector = (2 * Math.PI) / 5;
  const [bx, by] = [0.45 * Math.cos(sector / 2), 0.45 * Math.sin(sector / 2)];
  const inside: Record<string, (x: number, y: number) => boolean> = {
    ...thinForms,
    circle: (x, y) => Math.hypot(x, y) <= 1,
    square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 1,
    triangle: (x, y) => y <= 0.5 && Math.abs(x) <= (y + 1) / Math.sqrt(3),
    star: (x, y) => {
      const angle = Math.abs(modulo(Math.atan2(x, -y) + sector / 2, sector) - sector / 2);
      const rho = Math.hypot(x, y);
      return (bx - 1) * rho * Math.sin(angle) - by * (rho * Math.cos(angle) - 1) > 0;
    },
    // Two half discs on a square that stands on its corner.
    heart: (x, y) => {
      const [up, wide] = [0.5 - y, Math.abs(x)];
      return up + wide > 1 ? Math.hypot(wide - 0.25, up - 0.75) < Math.SQRT2 / 4 : up > wide && up <= 1;
    },
  };
  return Object.entries(inside).map(([name, test]) => {
    const at = (index: number) => -1.5 + (3 * index) / (grid - 1);
    const mask: Mask = {
      cells: Uint8Array.from({ length: grid * grid }, (_, i) =>
        test(at(i % grid), at(Math.floor(i / grid))) ? 1 : 0,
      ),
      width: grid,
      height: grid,
    };
    return { name: nameOf(name), ...normalised(mask) };
  });
}

let ideals: ReturnType<typeof idealForms> | undefined;

/** The best-fitting form: overlap in the bounding box, less the mismatch of the box's proportions. */
export function formOf(mask: Mask): string {
  ideals ??= idealForms();
  const { box, ratio } = normalised(mask);
  let best = { name: '', score: -Infinity };
  for (const form of ideals) {
    let [both, either] = [0, 0];
    for (let i = 0; i < box.length; i += 1) {
      both += (box[i] as number) & (form.box[i] as number);
      either += (box[i] as number) | (form.box[i] as number);
    }
    const score = both / either - 0.5 * Math.abs(Math.log(ratio / form.ratio));
    if (score > best.score) best = { name: form.name, score };
  }
  return best.name;
}

/** The mask's bounding box sampled to a square, and the box's width by its height. */
function normalised({ cells, width }: Mask): { box: Uint8Array; ratio: number } {
  const rows = new Set<number>();
  const columns = new Set<number>();
  cells.forEach((cell, i) => {
    if (cell === 0) return;
    rows.add(Math.floor(i / width));
    columns.add(i % width);
  });
  const [top, left] = [Math.min(...rows), Math.min(...columns)];
  const [tall, wide] = [Math.max(...rows) + 1 - top, Math.max(...columns) + 1 - left];
  const box = Uint8Array.from({ length: side * side }, (_, i) => {
    const y = top + Math.floor((Math.floor(i / side) * tall) / side);
    return cells[y * width + left + Math.floor(((i % side) * wide) / side)] as number;
  });
  return { box, ratio: columns.size / rows.size };
}

function modulo(value: number, by: number): number {
  return ((value % by) + by) % by;
}
