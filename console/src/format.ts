const units = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const;
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'narrow' });
const absolute = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });

/** "3 min. ago". */
export function ago(time: string | undefined, nowMs = Date.now()): string {
  if (time === undefined) return '';
  const seconds = (nowMs - Date.parse(time)) / 1000;
  const [unit, length] = units.find(([, of]) => Math.abs(seconds) >= of) ?? ['second', 1];
  if (unit === 'second' && seconds < 10 && seconds > -10) return 'now';
  return relative.format(-Math.round(seconds / length), unit);
}

export const exactly = (time: string): string => absolute.format(new Date(time));

/** "4 s", "2 min 10 s", "1 h 5 min". */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 === 0 ? '' : ` ${whole % 60} s`}`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  const [value, unit] =
    count < 1024 ** 2
      ? [count / 1024, 'KiB']
      : count < 1024 ** 3
        ? [count / 1024 ** 2, 'MiB']
        : [count / 1024 ** 3, 'GiB'];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

export const count = (amount: number, one: string, many = `${one}s`): string =>
  `${amount.toLocaleString('en')} ${amount === 1 ? one : many}`;

const engines: Record<string, string> = { sdxl: 'SDXL', wan: 'WAN', qwen: 'Qwen' };
export const engineName = (kind: string): string => engines[kind] ?? kind;

/** "SDXL, fast", "WAN, high, prompt enhanced". */
export function typeName(type: string): string {
  const engine = type.startsWith('sdxl') ? 'SDXL' : 'WAN';
  const quality = type.includes('_high') ? 'high' : 'fast';
  return `${engine} ${quality}${type.endsWith('_enhanced') ? ', prompt enhanced' : ''}`;
}
export const isVideoType = (type: string): boolean => type.startsWith('video');
