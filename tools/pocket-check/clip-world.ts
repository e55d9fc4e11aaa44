import type { DrawnClip, HeldOutClip } from './clip.js';
import { palette, type Pixels } from './picture.js';

/**
 * Draws a true clip of a held-out prompt, as tools/pocket/wan/world.py does for training: the one its `drawn`
 * numbers describe, or without them the one in the middle of each range, slow when no speed is named.
 */
export function drawClip(item: HeldOutClip, count: number): Pixels[] {
  const numbers = item.drawn ?? middleOfRanges(item);
  return Array.from({ length: count }, (_, frame) =>
    drawFrame(item.shape ?? 'circle', numbers, frame, count),
  );
}

export const worldSize = 64;

function middleOfRanges({ colour = 'red', background = 'white', motion, speed }: HeldOutClip): DrawnClip {
  const [front, back] = [palette[colour], palette[background]];
  if (front === undefined || back === undefined)
    throw new Error(`no such colour: ${colour} or ${background}`);
  const fast = speed === 'fast';
  const way = fast ? 26.5 : 12.5;
  const ratio = fast ? 1.92 : 1.4;
  return {
    x: 32,
    y: 32,
    dx: motion === 'left' ? -way : motion === 'right' ? way : 0,
    dy: motion === 'up' ? -way : motion === 'down' ? way : 0,
    radius: motion === 'grow' ? 10.3 : motion === 'shrink' ? 10.3 * ratio : 10.5,
    growth: motion === 'grow' ? Math.log(ratio) : motion === 'shrink' ? -Math.log(ratio) : 0,
    orbit_radius: motion === 'orbit' ? 13.75 : 0,
    orbit_start: 0,
    orbit_turn: ((fast ? 240 : 122) * Math.PI) / 180,
    blink_groups: motion !== 'blink' ? 0 : fast ? 1 : 2,
    colour: front,
    ground: back,
  };
}

function drawFrame(shape: string, drawn: DrawnClip, frame: number, count: number): Pixels {
  const share = count > 1 ? frame / (count - 1) : 0;
  const angle = drawn.orbit_start + (drawn.orbit_turn * frame) / 16;
  const cx = drawn.x + drawn.dx * (share - 0.5) + drawn.orbit_radius * Math.cos(angle);
  const cy = drawn.y + drawn.dy * (share - 0.5) + drawn.orbit_radius * Math.sin(angle);
  const radius = drawn.radius * Math.exp(drawn.growth * share);
  // frame 0 is seen, then the shape is hidden and seen by turns, for 1 or 2 latents of 4 frames
  const hidden =
    drawn.blink_groups > 0 && frame > 0 && Math.floor((frame - 1) / (4 * drawn.blink_groups)) % 2 === 0;
  const data = new Uint8Array(worldSize * worldSize * 3);
  for (let i = 0; i < worldSize * worldSize; i += 1) {
    const distance = distanceTo(
      shape,
      (i % worldSize) + 0.5 - cx,
      Math.floor(i / worldSize) + 0.5 - cy,
      radius,
    );
    const cover = hidden ? 0 : Math.min(1, Math.max(0, 0.5 - distance));
    for (let c = 0; c < 3; c += 1)
      data[i * 3 + c] = Math.round(
        (drawn.ground[c] as number) + cover * ((drawn.colour[c] as number) - (drawn.ground[c] as number)),
      );
  }
  return { data, width: worldSize, height: worldSize };
}

/** Signed distance in pixels, negative inside, at an offset from the shape's centre. */
function distanceTo(shape: string, x: number, y: number, r: number): number {
  const rho = Math.hypot(x, y);
  switch (shape) {
    case 'circle':
      return rho - r;
    case 'square':
      return Math.max(Math.abs(x), Math.abs(y)) - 0.88 * r;
    case 'triangle': {
      const [inner, ty] = [0.62 * r, y - 0.18 * r];
      return Math.max(ty - inner, 0.8660254 * Math.abs(x) - 0.5 * ty - inner);
    }
    case 'star': {
      const sector = (2 * Math.PI) / 5;
      const turned = ((((Math.atan2(x, -y) + sector / 2) % sector) + sector) % sector) - sector / 2;
      const [px, py] = [rho * Math.cos(turned), rho * Math.abs(Math.sin(turned))];
      const [tip, notchX, notchY] = [
        1.25 * r,
        0.56 * r * Math.cos(sector / 2),
        0.56 * r * Math.sin(sector / 2),
      ];
      return (notchY * (px - tip) - (notchX - tip) * py) / Math.hypot(notchX - tip, notchY);
    }
    case 'heart': {
      const unit = 1.75 * r;
      const [hx, hy] = [Math.abs(x) / unit, 0.56 - y / unit];
      if (hx + hy > 1) return (Math.hypot(hx - 0.25, hy - 0.75) - Math.SQRT2 / 4) * unit;
      const along = 0.5 * Math.max(0, hx + hy);
      return (
        Math.sqrt(Math.min(hx ** 2 + (hy - 1) ** 2, (hx - along) ** 2 + (hy - along) ** 2)) *
        Math.sign(hx - hy) *
        unit
      );
    }
    default:
      throw new Error(`no such shape: ${shape}`);
  }
}
