import type { HeldOutClip } from './clip.js';
import { palette, type Pixels } from './picture.js';

/**
 * Draws what a held-out prompt states, as tools/pocket/wan/world.py does for training, with the middle of each of its
 * ranges: true clips, for references and for what the VAE alone makes of them.
 */
export function drawClip(item: HeldOutClip, count: number): Pixels[] {
  return Array.from({ length: count }, (_, frame) => drawFrame(item, frame, count));
}

export const worldSize = 64;

function drawFrame({ colour = 'red', shape = 'circle', background = 'white', motion, speed }: HeldOutClip, frame: number, count: number): Pixels {
  const [front, back] = [palette[colour], palette[background]];
  if (front === undefined || back === undefined) throw new Error(`no such colour: ${colour} or ${background}`);
  const fast = speed === 'fast';
  const share = count > 1 ? frame / (count - 1) : 0;
  const way = (fast ? 26.5 : 12.5) * (share - 0.5);
  const angle = ((fast ? 240 : 122) * Math.PI * frame) / 180 / 16;
  const radiusOfOrbit = motion === 'orbit' ? 13.75 : 0;
  const cx = 32 + (motion === 'left' ? -way : motion === 'right' ? way : 0) + radiusOfOrbit * Math.cos(angle);
  const cy = 32 + (motion === 'up' ? -way : motion === 'down' ? way : 0) + radiusOfOrbit * Math.sin(angle);
  const ratio = fast ? 1.92 : 1.4;
  const radius = motion === 'grow' ? 10.3 * ratio ** share : motion === 'shrink' ? 10.3 * ratio ** (1 - share) : 10.5;
  // Frame 0 is seen, then the shape is hidden and seen by turns, for 1 or 2 latents of 4 frames.
  const hidden = motion === 'blink' && frame > 0 && Math.floor((frame - 1) / (fast ? 4 : 8)) % 2 === 0;
  const data = new Uint8Array(worldSize * worldSize * 3);
  for (let i = 0; i < worldSize * worldSize; i += 1) {
    const distance = distanceTo(shape, (i % worldSize) + 0.5 - cx, Math.floor(i / worldSize) + 0.5 - cy, radius);
    const cover = hidden ? 0 : Math.min(1, Math.max(0, 0.5 - distance));
    for (let c = 0; c < 3; c += 1) data[i * 3 + c] = Math.round((back[c] as number) + cover * ((front[c] as number) - (back[c] as number)));
  }
  return { data, width: worldSize, height: worldSize };
}

/** Signed distance in pixels, negative inside, at an offset from the shape's centre. */
function distanceTo(shape: string, x: number, y: number, r: number): number {
  const rho = Math.hypot(x, y);
  switch (shape) {
    case 'circle': return rho - r;
    case 'square': return Math.max(Math.abs(x), Math.abs(y)) - 0.88 * r;
    case 'triangle': {
      const [inner, ty] = [0.62 * r, y - 0.18 * r];
      return Math.max(ty - inner, 0.8660254 * Math.abs(x) - 0.5 * ty - inner);
    }
    case 'star': {
      const sector = (2 * Math.PI) / 5;
      const turned = (((Math.atan2(x, -y) + sector / 2) % sector) + sector) % sector - sector / 2;
      const [px, py] = [rho * Math.cos(turned), rho * Math.abs(Math.sin(turned))];
      const [tip, notchX, notchY] = [1.25 * r, 0.56 * r * Math.cos(sector / 2), 0.56 * r * Math.sin(sector / 2)];
      return (notchY * (px - tip) - (notchX - tip) * py) / Math.hypot(notchX - tip, notchY);
    }
    case 'heart': {
      const unit = 1.75 * r;
      const [hx, hy] = [Math.abs(x) / unit, 0.56 - y / unit];
      if (hx + hy > 1) return (Math.hypot(hx - 0.25, hy - 0.75) - Math.SQRT2 / 4) * unit;
      const along = 0.5 * Math.max(0, hx + hy);
      return Math.sqrt(Math.min(hx ** 2 + (hy - 1) ** 2, (hx - along) ** 2 + (hy - along) ** 2)) * Math.sign(hx - hy) * unit;
    }
    default: throw new Error(`no such shape: ${shape}`);
  }
}
