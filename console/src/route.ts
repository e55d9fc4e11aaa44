import { createCell } from './cell.js';

const screens = ['draw', 'gallery', 'queue', 'failed', 'health', 'setup'] as const;
export type Screen = (typeof screens)[number];
/** `#/gallery/JOB_ID`: a screen, and what is open on it. */
interface Route {
  screen: Screen;
  item: string | null;
}

function read(): Route {
  const [, screen = '', item = ''] = location.hash.split('/');
  const known = screens.find((one) => one === screen) ?? 'draw';
  return { screen: known, item: item === '' ? null : decodeURIComponent(item) };
}

export const route = createCell<Route>(read());
addEventListener('hashchange', () => route.set(read()));

export const addressOf = (screen: Screen, item?: string) =>
  item === undefined ? `#/${screen}` : `#/${screen}/${encodeURIComponent(item)}`;

export function go(screen: Screen, item?: string): void {
  location.hash = addressOf(screen, item);
}
