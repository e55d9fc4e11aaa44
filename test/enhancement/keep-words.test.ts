import t from 'tap';
import { contentWords, lostWords } from '../../src/services/enhancement/keep-words.js';

t.test('every word that could be drawn survives', (t) => {
  for (const [prompt, answer] of [
    ['a red circle above a blue square', 'A large red circle above a small blue square, soft light'],
    ['a dog walks on the beach', 'a dog walking along a sandy beach'],
    ['two cities at night', 'a city and another city at night, two skylines'],
    ['run', 'a man running'],
    ["a cat's bowl", 'the bowl of a cat, cats around it'],
    ['3 cats', 'three cats on a mat'],
    ['seven stars', '7 stars'],
    ['Zebra on the moon', 'a zebra on the moon'],
    ['an image of Tokyo', 'Tokyo by night'],
    ['ein roter Kreis über einem Quadrat', 'ein roter Kreis über einem Quadrat, weiches Licht'],
    ['一只猫', '一只猫，坐在窗边'],
    ['一只猫坐着', '一只猫坐着，阳光'],
    ['кот на окне', 'кот на окне, свет'],
    ['a fire 🔥', 'a bright fire 🔥'],
    ['naïve café', 'a nai\u0308ve cafe\u0301 at dawn'],
    ['the', 'anything'],
    ['', 'anything'],
  ] as const)
    t.same(lostWords(prompt, answer), [], `${prompt} → ${answer}`);
  t.end();
});

t.test('what is mangled, dropped or replaced is named', (t) => {
  for (const [prompt, answer, lost] of [
    ['a furious skyscraper', 'a furious onscraper, soft light', ['skyscraper']],
    ['Zebra in the sea', 'a webra in the sea', ['zebra']],
    ['xqzptlk vwrrgh', 'xqzptlk vwrgh', ['vwrrgh']],
    ['teebo', 'ceebo', ['teebo']],
    ['a red circle', 'a green circle', ['red']],
    ['seven blue squares', 'one huge selain blue squares', ['seven']],
    ['3 cats', '4 cats', ['3']],
    ['a red circle, a green heart', 'a red circle', ['green', 'heart']],
    ['一只猫', '一只狗', ['一只猫']],
    ['a fire 🔥', 'a fire', ['🔥']],
    ['a car', 'a cart', ['car']],
    ['the sun', 'the sea', ['sun']],
    ['a planet', 'a plane', ['planet']],
    ['cat', 'catalogue', ['cat']],
  ] as const)
    t.same(lostWords(prompt, answer), lost, `${prompt} → ${answer}`);
  t.same(contentWords('Make an image of the red CIRCLE, red'), ['red', 'circle']);
  t.end();
});
