export interface Instruction {
  keyword: string;
  rest: string;
  /** Of COPY. */
  copy: { from: string | undefined; sources: string[]; target: string };
}
export interface Stage {
  name: string;
  base: string;
  instructions: Instruction[];
}

/** As much of a Dockerfile's syntax as ours uses: comments, continued lines, named stages. */
export function readDockerfile(text: string) {
  const lines = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  const stages: Stage[] = [];
  for (const line of lines) {
    const [, keyword = '', rest = ''] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (keyword === '') throw new Error(`not an instruction: ${line}`);
    if (keyword === 'FROM') {
      const [base = '', , name = base] = rest.split(/\s+/);
      stages.push({ name, base, instructions: [] });
    } else {
      stages.at(-1)?.instructions.push({ keyword, rest, copy: readCopy(keyword === 'COPY' ? rest : '') });
    }
  }
  return {
    stages,
    stage(name: string): Stage {
      const found = stages.find((each) => each.name === name);
      if (found === undefined) throw new Error(`there is no stage ${name}`);
      return found;
    },
  };
}

function readCopy(rest: string): Instruction['copy'] {
  const words = rest.split(/\s+/);
  const flags = words.filter((word) => word.startsWith('--'));
  const paths = words.filter((word) => !word.startsWith('--'));
  return {
    from: flags.find((flag) => flag.startsWith('--from='))?.slice('--from='.length),
    sources: paths.slice(0, -1),
    target: paths.at(-1) ?? '',
  };
}
