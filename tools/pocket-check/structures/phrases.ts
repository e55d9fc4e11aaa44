import { canonical } from './tokens.js';
import { colourWords, motionWords, shapeWords, speedWords, type Words } from './words.js';

/** One thing that a few words say: of all objects, or of the one whose shape is `subject`. */
export interface Assertion {
  slot: string;
  value: string;
  subject?: string | undefined;
  all?: boolean;
}

const either = (words: readonly string[]) =>
  `(?:${[...words].sort((a, b) => b.length - a.length).join('|')})`;
const flat = (list: Words) => Object.values(list).flat();
const colour = either(flat(colourWords));
const shape = either(flat(shapeWords).flatMap((word) => [word, `${word}s`, `${word}es`]));
const place = String.raw`(?:(?:in|at|on|near|to|towards) the )?(?:dead )?(left|right|top|bottom|upper|lower|centre|center|middle)(?:[- ]hand)?(?: (?:side|half|edge|part))?(?: of (?:the )?(?:picture|frame|image))?`;

type Rule = readonly [pattern: RegExp, read: (found: RegExpExecArray) => Assertion];
const rule = (pattern: string, read: (found: RegExpExecArray) => Assertion): Rule => [
  new RegExp(
    String.raw`^(?:(?:and|with|on|in|against|under|over|is|are|a|an|the|its|all) )*?(?:${pattern})(?![\p{L}\p{N}])`,
    'u',
  ),
  read,
];
const says = (pattern: string, slot: string, value: string): Rule => rule(pattern, () => ({ slot, value }));
const placeNames: Readonly<Record<string, string>> = {
  upper: 'top',
  lower: 'bottom',
  center: 'centre',
  middle: 'centre',
};
const named = (side = '') => placeNames[side] ?? side;

const finish = `flat colou?rs|(?:sharp|clean|crisp|smooth|clear) (?:edges|outlines|lines|shapes|forms)|simple (?:forms|shapes)|even (?:light|lighting)|no text|no shadows?|no border|nothing else(?: (?:in the picture|in sight|around))?|(?:evenly |solidly )?filled|(?:still|steady|fixed) camera|smooth motion|steady motion|even spacing|evenly spaced|well apart`;
const quality = `(?:best|high|top|good|great) quality|(?:highly |finely )?detailed|sharp(?: focus)?|in focus|(?:fine|clear|crisp|rich) details?|high resolution|masterpiece|professional|well made|well drawn|carefully made`;

/** The first that fits is taken. */
const rules: readonly Rule[] = [
  rule(
    `(?:(?:plain|solid|simple|even|uniform) )*(${colour}) (?:background|backdrop|bg|wall)`,
    ([, value]) => ({ slot: 'background', value: canonical(value ?? '') }),
  ),
  rule(`background (?:is )?(${colour})`, ([, value]) => ({
    slot: 'background',
    value: canonical(value ?? ''),
  })),
  says('(?:plain|simple|even) background', 'finish', 'plain background'),
  rule(`(sun|moon)(?: (?:is |high |low |stands )*${place})?`, ([, value = '']) => ({ slot: 'light', value })),
  says('(?:(?:starry|dark|clear|deep) )*night(?: sky)?|at night|midnight|stars in the sky', 'sky', 'night'),
  says('(?:(?:orange|warm|red|evening) )*(?:sunset|dusk)(?: sky)?|evening sky', 'sky', 'sunset'),
  says(
    '(?:(?:clear|bright|blue|pale|sunny) )*(?:day|daytime|noon|midday|daylight)(?: sky)?|(?:clear )?blue sky',
    'sky',
    'day',
  ),
  says('(?:sky turns|day (?:slowly )?turns) (?:from day )?to night', 'sky', 'night'),
  says('(?:(?:a few|white|soft|thin|few|some|grey|small) )*clouds?', 'clouds', 'clouds'),
  says('(?:(?:green|rolling|soft|low|distant) )*hills', 'ground', 'hills'),
  says('(?:calm |open )?(?:sea|ocean)', 'ground', 'sea'),
  says('(?:green )?trees|house', 'landmark', 'landmark'),
  ...Object.entries(motionWords).flatMap(([motion, forms]) =>
    forms.flat().map((form) => says(form, 'motion', motion)),
  ),
  rule(
    '(?:moving|sliding|drifting|gliding|going|floating) (?:to the |towards the )?(left|right|up|down)(?:wards?)?',
    ([, way = '']) => ({ slot: 'motion', value: way }),
  ),
  says('resting', 'motion', 'still'),
  ...Object.entries(speedWords).flatMap(([speed, forms]) => forms.map((form) => says(form, 'speed', speed))),
  says('at a slow pace|gently|calmly', 'speed', 'slow'),
  says('at a fast pace|at speed', 'speed', 'fast'),
  says(finish, 'finish', 'finish'),
  says(quality, 'quality', 'quality'),
  says('(?:small|tiny|little)(?: in size)?', 'size', 'small'),
  says('(?:large|big|huge)(?: in size)?', 'size', 'large'),
  rule(place, ([, side]) => ({ slot: 'place', value: named(side) })),
  rule(`(${colour})`, ([, value]) => ({ slot: 'colour', value: canonical(value ?? '') })),
];

/** What follows is said of this shape ("the square is small") or of both or all. */
const subject = new RegExp(`^(?:and )?(?:the |with the )(?:${colour} )?(${shape})(?: is| are)? `, 'u');
const everyone = new RegExp(
  String.raw`^(?:and )?(?:both|all|each|they|it)(?: of them)?(?: ${shape}| shapes)?(?: is| are)? `,
  'u',
);

/** What the words after a prompt say, clause by clause; what no rule knows is `unknown`. */
export function assertionsIn(text: string): Assertion[] {
  return text
    .toLowerCase()
    .split(/[,.;:!?()]|\s[-–—]\s/u)
    .map((clause) => clause.trim())
    .filter((clause) => clause !== '')
    .flatMap(readClause);
}

function readClause(clause: string): Assertion[] {
  const found: Assertion[] = [];
  let rest = clause;
  let about: Pick<Assertion, 'subject' | 'all'> = {};
  while (rest !== '') {
    const one = subject.exec(rest);
    const every = one === null ? everyone.exec(rest) : null;
    if (one !== null) about = { subject: canonical(one[1] ?? '') };
    if (every !== null) about = { all: true };
    rest = rest.slice((one ?? every)?.[0].length ?? 0);
    const match = rules
      .map(([pattern, read]) => ({ hit: pattern.exec(rest), read }))
      .find(({ hit }) => hit !== null && hit[0] !== '');
    if (match === undefined || match.hit === null) return [...found, { slot: 'unknown', value: rest }];
    found.push({ ...match.read(match.hit), ...about });
    rest = rest.slice(match.hit[0].length).replace(/^[\s-]*(?:(?:and|with|but) )?/u, '');
  }
  return found;
}
