/**
 * What fills the slots of test/fixtures/pocket-structures.txt: for each meaning the words people use, the
 * plainest first. A typing error is one people make, not a random letter.
 */
export type Words = Readonly<Record<string, readonly string[]>>;

export const colourWords: Words = {
  red: ['red', 'crimson', 'scarlet'],
  orange: ['orange'],
  yellow: ['yellow'],
  green: ['green', 'emerald'],
  blue: ['blue', 'azure'],
  purple: ['purple', 'violet'],
  white: ['white'],
  black: ['black'],
  pink: ['pink'],
  brown: ['brown'],
};
export const mistypedColours: Words = {
  red: ['redd'],
  orange: ['ornage', 'oragne'],
  yellow: ['yelow', 'yellwo'],
  green: ['gren', 'geen'],
  blue: ['bleu', 'bule'],
  purple: ['purpel', 'puple'],
  white: ['whtie', 'wite'],
  black: ['balck', 'blakc'],
  pink: ['pinc', 'pnik'],
  brown: ['bronw', 'browm'],
};
export const shapeWords: Words = {
  circle: ['circle', 'disc', 'disk', 'ball'],
  square: ['square', 'box'],
  triangle: ['triangle'],
  star: ['star'],
  heart: ['heart'],
  ring: ['ring', 'hoop'],
  cross: ['cross', 'plus sign'],
  diamond: ['diamond', 'rhombus'],
  arrow: ['arrow'],
};
export const pluralShapes: Readonly<Record<string, string>> = {
  box: 'boxes',
  cross: 'crosses',
  rhombus: 'rhombuses',
};
export const mistypedShapes: Words = {
  circle: ['cirlce', 'circel'],
  square: ['sqaure', 'squre'],
  triangle: ['traingle', 'trianle'],
  star: ['satr', 'starr'],
  heart: ['haert', 'hart'],
  ring: ['rign', 'rnig'],
  cross: ['corss', 'croos'],
  diamond: ['dimond', 'diamnod'],
  arrow: ['arow', 'arrwo'],
};
export const sizeWords: Words = { small: ['small', 'tiny', 'little'], large: ['large', 'big', 'huge'] };
export const placeWords: Words = {
  left: ['on the left', 'on the left-hand side', 'on the left side'],
  right: ['on the right', 'on the right-hand side', 'on the right side'],
  top: ['at the top', 'near the top'],
  bottom: ['at the bottom', 'near the bottom'],
  centre: ['in the middle', 'in the centre', 'in the center'],
};
export const sideWords: Words = {
  left: ['left'],
  right: ['right'],
  top: ['top'],
  bottom: ['bottom'],
  centre: ['middle', 'centre', 'center'],
};
export const relationWords: Words = {
  above: ['above', 'over'],
  below: ['below', 'under', 'beneath'],
  'left of': ['to the left of', 'left of'],
  'right of': ['to the right of', 'right of'],
};
export const countWords = ['one', 'two', 'three', 'four', 'five'];

/** As "moving left", "moves left" and "move left". */
export const motionWords: Readonly<Record<string, ReadonlyArray<readonly [string, string, string]>>> = {
  left: [
    ['moving left', 'moves left', 'move left'],
    ['sliding to the left', 'slides to the left', 'slide to the left'],
    ['drifting left', 'drifts left', 'drift left'],
  ],
  right: [
    ['moving right', 'moves right', 'move right'],
    ['sliding to the right', 'slides to the right', 'slide to the right'],
    ['going right', 'goes right', 'go right'],
  ],
  up: [
    ['moving up', 'moves up', 'move up'],
    ['rising', 'rises', 'rise'],
    ['going upwards', 'goes upwards', 'go upwards'],
  ],
  down: [
    ['moving down', 'moves down', 'move down'],
    ['sinking', 'sinks', 'sink'],
    ['going downwards', 'goes downwards', 'go downwards'],
  ],
  grow: [
    ['growing', 'grows', 'grow'],
    ['getting bigger', 'gets bigger', 'get bigger'],
  ],
  shrink: [
    ['shrinking', 'shrinks', 'shrink'],
    ['getting smaller', 'gets smaller', 'get smaller'],
  ],
  orbit: [
    ['orbiting', 'orbits', 'orbit'],
    ['circling around', 'circles around', 'circle around'],
    ['going round in a circle', 'goes round in a circle', 'go round in a circle'],
  ],
  blink: [
    ['blinking', 'blinks', 'blink'],
    ['flashing', 'flashes', 'flash'],
  ],
  still: [
    ['staying still', 'stays still', 'stay still'],
    ['not moving', 'does not move', 'not move'],
  ],
};
export const speedWords: Words = { slow: ['slowly'], fast: ['quickly', 'fast'] };
export const paceWords: Words = { slow: ['slow'], fast: ['fast', 'quick'] };
export const timeWords: Words = {
  day: ['daytime', 'noon', 'midday'],
  sunset: ['sunset', 'dusk'],
  night: ['night', 'midnight'],
};
export const landWords: Words = {
  sea: ['the sea', 'a calm sea', 'the ocean'],
  hills: ['green hills', 'hills', 'the hills'],
};

/** Outside the world: nothing is known about them. */
export const things = [
  'apple',
  'zebra',
  'teapot',
  'skyscraper',
  'violin',
  'moonbeam',
  'backpack',
  'accordion',
  'sunflower',
  'hedgehog',
  'umbrella',
  'startup',
  'kangaroo',
  'Zamboni',
  'windmill',
  'croissant',
  'squid',
  'typewriter',
  'lighthouse',
  'gargoyle',
  'dinosaur',
  'wheelbarrow',
  'kettle',
  'Snorlax',
  'marmalade',
  'tractor',
  'squirrel',
  'chandelier',
  'daffodil',
  'submarine',
  'fjord',
  'quokka',
];
export const adjectives = ['shiny', 'wooden', 'retro', 'fluffy', 'glossy', 'rusty', 'elegant', 'cheerful'];
