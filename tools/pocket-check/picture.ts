/**
 * What a pixel check sees in a picture of the pocket world. It shares no code with the drawing: colours and
 * forms are measured.
 */

export interface Pixels {
  data: Uint8Array;
  width: number;
  height: number;
}

/** The world's colours as a person would name them. */
export const palette: Readonly<Record<string, readonly [number, number, number]>> = {
  red: [220, 40, 40],
  orange: [245, 140, 30],
  yellow: [250, 220, 50],
  green: [40, 160, 70],
  blue: [50, 90, 220],
  purple: [140, 60, 180],
  white: [245, 245, 245],
  black: [25, 25, 25],
  pink: [250, 150, 190],
  brown: [125, 75, 40],
};
export const paletteNames = Object.keys(palette);
const names = paletteNames;

/** Index of the nearest palette colour for every pixel. */
export function classify({ data }: Pixels): Uint8Array {
  const classes = new Uint8Array(data.length / 3);
  for (let i = 0; i < classes.length; i += 1) {
    let best = Infinity;
    names.forEach((name, index) => {
      const [r, g, b] = palette[name] as readonly [number, number, number];
      const distance =
        ((data[i * 3] as number) - r) ** 2 +
        ((data[i * 3 + 1] as number) - g) ** 2 +
        ((data[i * 3 + 2] as number) - b) ** 2;
      if (distance < best) {
        best = distance;
        classes[i] = index;
      }
    });
  }
  return classes;
}

export interface Blob {
  colour: string;
  area: number;
  x: number;
  y: number;
  mask: Uint8Array;
  box: { left: number; right: number; top: number; bottom: number };
}

/** Colour of most of the picture's border. */
export function backgroundOf(classes: Uint8Array, width: number, height: number): string {
  const counts = new Array<number>(names.length).fill(0);
  for (let i = 0; i < classes.length; i += 1) {
    const [x, y] = [i % width, Math.floor(i / width)];
    if (x < 4 || y < 4 || x >= width - 4 || y >= height - 4)
      counts[classes[i] as number] = (counts[classes[i] as number] as number) + 1;
  }
  return names[counts.indexOf(Math.max(...counts))] as string;
}

/**
 * Connected regions that are not background, larger than `minimumArea` pixels; a region has the colour most
 * of its pixels have.
 */
export function blobsOf(
  classes: Uint8Array,
  width: number,
  height: number,
  background: string,
  minimumArea = 60,
): Blob[] {
  const ground = names.indexOf(background);
  const seen = new Uint8Array(classes.length);
  const blobs: Blob[] = [];
  for (let start = 0; start < classes.length; start += 1) {
    if (seen[start] === 1 || classes[start] === ground) continue;
    const mask = new Uint8Array(classes.length);
    const counts = new Array<number>(names.length).fill(0);
    const stack = [start];
    seen[start] = 1;
    let [area, sumX, sumY] = [0, 0, 0];
    const box = { left: width, right: 0, top: height, bottom: 0 };
    for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
      const [x, y] = [i % width, Math.floor(i / width)];
      mask[i] = 1;
      area += 1;
      sumX += x;
      sumY += y;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y);
      counts[classes[i] as number] = (counts[classes[i] as number] as number) + 1;
      for (const [nx, ny] of [
        [x - 1, y],
        [x + 1, y],
        [x, y - 1],
        [x, y + 1],
      ] as const) {
        const next = ny * width + nx;
        if (nx < 0 || ny < 0 || nx >= width || ny >= height || seen[next] === 1 || classes[next] === ground)
          continue;
        seen[next] = 1;
        stack.push(next);
      }
    }
    if (area >= minimumArea)
      blobs.push({
        colour: names[counts.indexOf(Math.max(...counts))] as string,
        area,
        x: sumX / area,
        y: sumY / area,
        mask,
        box,
      });
  }
  return blobs.sort((a, b) => b.area - a.area);
}

/** The shape a form belongs to: what is drawn in more than one way has several forms. */
export function nameOf(form: string): string {
  return form.split(' ')[0] as string;
}

/** Form by overlap with ideal forms of the same area and centre; the best-fitting one wins. */
export function shapeOf({ mask, area, box }: Blob, width: number): string {
  const [cx, cy] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  let best = { name: '', overlap: -1 };
  for (const [variant, inside] of Object.entries(forms)) {
    const name = nameOf(variant);
    for (const stretch of [0.94, 1, 1.06]) {
      const scale = Math.sqrt(area / unitArea(variant)) * stretch;
      const offset = centreOffset(variant) * scale;
      let [both, either] = [0, 0];
      for (let y = Math.max(0, box.top - 6); y <= box.bottom + 6; y += 1) {
        for (let x = Math.max(0, box.left - 6); x <= Math.min(width - 1, box.right + 6); x += 1) {
          const on = mask[y * width + x] === 1;
          const ideal = inside((x - cx) / scale, (y - cy + offset) / scale);
          if (on && ideal) both += 1;
          if (on || ideal) either += 1;
        }
      }
      if (both / either > best.overlap) best = { name, overlap: both / either };
    }
  }
  return best.name;
}

type Inside = (x: number, y: number) => boolean;
const ring =
  (hole: number): Inside =>
  (x, y) =>
    Math.hypot(x, y) <= 1 && Math.hypot(x, y) >= hole;
const cross =
  (arm: number): Inside =>
  (x, y) =>
    Math.max(Math.abs(x), Math.abs(y)) <= 1 && Math.min(Math.abs(x), Math.abs(y)) <= arm;
const diamond =
  (wide: number): Inside =>
  (x, y) =>
    Math.abs(x) / wide + Math.abs(y) <= 1;
/** Points along x: a shaft as thick as `shaft`, a head from `neck` to the tip. */
const arrow =
  (shaft: number, neck: number, head: number): Inside =>
  (x, y) =>
    Math.abs(x) <= 1 && Math.abs(y) <= (x < neck ? shaft : (head * (1 - x)) / (1 - neck));
const turned =
  (inside: Inside): Inside =>
  (x, y) =>
    inside(y, x);
const mirrored =
  (inside: Inside): Inside =>
  (x, y) =>
    inside(-x, -y);
const arrows = [arrow(0.22, 0, 0.75), arrow(0.3, 0.1, 0.9), arrow(0.35, -0.05, 0.75)].flatMap((right) => [
  right,
  mirrored(right),
  turned(right),
  mirrored(turned(right)),
]);

/** Forms of thin parts; a word behind the name tells the ways apart in which one is drawn. */
export const thinForms: Readonly<Record<string, Inside>> = {
  'ring thick': ring(0.45),
  'ring middle': ring(0.6),
  'ring thin': ring(0.72),
  'cross thick': cross(0.38),
  'cross thin': cross(0.28),
  'diamond wide': diamond(1),
  'diamond narrow': diamond(0.72),
  ...Object.fromEntries(arrows.map((inside, i) => [`arrow ${i}`, inside])),
};

/** Unit forms, y downward. */
const forms: Readonly<Record<string, Inside>> = {
  ...thinForms,
  circle: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 1,
  triangle: (x, y) => y <= 0.5 && y >= -1 && Math.abs(x) <= (y + 1) / Math.sqrt(3),
  star: (x, y) => {
    const sector = (2 * Math.PI) / 5;
    const angle = Math.abs(((((Math.atan2(x, -y) + sector / 2) % sector) + sector) % sector) - sector / 2);
    // straight edge from the tip (radius 1) to the notch (radius 0.45, half a sector on)
    const [bx, by] = [0.45 * Math.cos(sector / 2), 0.45 * Math.sin(sector / 2)];
    const rho = Math.hypot(x, y);
    const [px, py] = [rho * Math.cos(angle), rho * Math.sin(angle)];
    return (bx - 1) * py - by * (px - 1) <= 0 ? false : true;
  },
  heart: (x, y) => (x * x + y * y - 1) ** 3 - x * x * -y * -y * -y <= 0,
};

const unitAreas = new Map<string, number>();
const offsets = new Map<string, number>();

function measure(name: string): void {
  const inside = forms[name] as (x: number, y: number) => boolean;
  const step = 0.02;
  let [count, top, bottom] = [0, Infinity, -Infinity];
  for (let y = -1.6; y <= 1.6; y += step) {
    for (let x = -1.6; x <= 1.6; x += step) {
      if (!inside(x, y)) continue;
      count += 1;
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
  }
  unitAreas.set(name, count * step * step);
  offsets.set(name, (top + bottom) / 2);
}

function unitArea(name: string): number {
  if (!unitAreas.has(name)) measure(name);
  return unitAreas.get(name) as number;
}

/** Where the middle of a form's bounding box lies, in units, below its origin. */
function centreOffset(name: string): number {
  if (!offsets.has(name)) measure(name);
  return offsets.get(name) as number;
}
