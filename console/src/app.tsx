import {
  Brush,
  HeartPulse,
  type IconNode,
  Images,
  ListOrdered,
  LogOut,
  SlidersHorizontal,
  TriangleAlert,
} from 'lucide';
import { useEffect, useRef } from 'preact/hooks';
import { api, may, resume, session, signOut, unreachable } from './api.js';
import { useCell } from './cell.js';
import { DrawScreen } from './draw/draw.js';
import { GalleryScreen } from './gallery/gallery.js';
import { followAll } from './live.js';
import { Login, Mark } from './login.js';
import { Marks } from './marks.js';
import { FailedScreen } from './operate/failed.js';
import { HealthScreen } from './operate/health.js';
import { QueueScreen } from './operate/queue.js';
import { SetupScreen } from './operate/setup.js';
import { addressOf, route, type Screen } from './route.js';
import { Button, Icon } from './ui.js';
import { useLoaded } from './use-loaded.js';

interface Place {
  screen: Screen;
  label: string;
  icon: IconNode;
  scope: Parameters<typeof may>[0];
}
const places: Place[] = [
  { screen: 'draw', label: 'Draw', icon: Brush, scope: 'jobs' },
  { screen: 'gallery', label: 'Gallery', icon: Images, scope: 'jobs' },
  { screen: 'queue', label: 'Queue', icon: ListOrdered, scope: 'jobs' },
  { screen: 'failed', label: 'Failed', icon: TriangleAlert, scope: 'operate' },
  { screen: 'health', label: 'Health', icon: HeartPulse, scope: 'status' },
  { screen: 'setup', label: 'Setup', icon: SlidersHorizontal, scope: 'jobs' },
];

export function App() {
  const who = useCell(session);
  useEffect(() => {
    const begin = () => void resume().catch(() => {});
    // A link that is pasted into this tab loads no page.
    const onHash = () => location.hash.startsWith('#login=') && begin();
    begin();
    addEventListener('hashchange', onHash);
    return () => removeEventListener('hashchange', onHash);
  }, []);
  if (who === undefined) return <Waiting />;
  return who === null ? <Login /> : <Shell />;
}

function Waiting() {
  const problem = useCell(unreachable);
  return <main class="waiting">{problem !== null && <p role="alert">{problem}</p>}</main>;
}

function Shell() {
  const { screen, item } = useCell(route);
  const who = useCell(session);
  const problem = useCell(unreachable);
  const main = useRef<HTMLElement>(null);
  const capabilities = useLoaded((signal) => api.getCapabilities({}, { signal }), [], 30_000);
  const first = useRef(true);
  useEffect(() => (may('jobs') ? followAll() : undefined), []);

  // A screen reader begins at the heading of what was opened.
  useEffect(() => {
    const heading = main.current?.querySelector('h1');
    document.title = `${heading?.textContent ?? 'OurVidz'} · OurVidz`;
    if (!first.current) heading?.focus({ preventScroll: true });
    first.current = false;
    scrollTo(0, 0);
  }, [screen]);

  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <nav class="nav" aria-label="Screens">
        <div class="brand">
          <Mark />
          <span>OurVidz</span>
        </div>
        <ul>
          {places
            .filter(({ scope }) => may(scope))
            .map(({ screen: to, label, icon }) => (
              <li key={to}>
                <a href={addressOf(to)} aria-current={to === screen ? 'page' : undefined}>
                  <Icon of={icon} size={18} />
                  <span>{label}</span>
                  <Marks of={to} />
                </a>
              </li>
            ))}
        </ul>
        <div class="nav-foot">
          <span class="who" title={who?.user_id ?? undefined}>
            {who?.caller.split('/')[0]}
          </span>
          <Button tone="quiet" icon={LogOut} iconOnly label="Sign out" onClick={signOut} />
        </div>
      </nav>
      <main class="content" id="main" ref={main} tabIndex={-1}>
        {problem !== null && (
          <p class="banner" role="alert">
            {problem} Trying again.
          </p>
        )}
        {screen === 'draw' && <DrawScreen capabilities={capabilities.data} />}
        {screen === 'gallery' && <GalleryScreen item={item} />}
        {screen === 'queue' && <QueueScreen item={item} />}
        {screen === 'failed' && <FailedScreen />}
        {screen === 'health' && <HealthScreen />}
        {screen === 'setup' && <SetupScreen capabilities={capabilities.data} />}
      </main>
    </div>
  );
}
