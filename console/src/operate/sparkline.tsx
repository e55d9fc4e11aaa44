const [width, height] = [220, 44];

/** A line without axes; its last and highest values are said in words. */
export function Sparkline({
  label,
  values,
  write,
}: {
  label: string;
  values: Array<number | null>;
  write: (value: number) => string;
}) {
  const known = values.filter((value) => value !== null);
  const highest = Math.max(...known, 0);
  const last = known.at(-1) ?? 0;
  const x = (index: number) => (index / Math.max(1, values.length - 1)) * width;
  const y = (value: number) => height - 2 - (highest === 0 ? 0 : (value / highest) * (height - 6));
  const points = values.flatMap((value, index) =>
    value === null ? [] : [`${x(index).toFixed(1)},${y(value).toFixed(1)}`],
  );
  return (
    <figure class="spark">
      <figcaption>
        <span>{label}</span>
        <b>{write(last)}</b>
      </figcaption>
      <svg
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`${label}: now ${write(last)}, at most ${write(highest)}`}
      >
        <polygon points={`0,${height} ${points.join(' ')} ${width},${height}`} />
        <polyline points={points.join(' ')} />
      </svg>
      <span class="hint">at most {write(highest)}</span>
    </figure>
  );
}
