import t from 'tap';
import { cleanPrompt } from '../../../src/inference/wan/text.js';

t.test('prompts are cleaned as diffusers cleans them', async (t) => {
  // right sides: re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text)))).strip() in Python
  // 3.11, ftfy 6.3,
  // except that ftfy decodes entities once more where a text has no tags, and reads \u0085 as an ellipsis
  const cases: Array<[string, string]> = [
    ['The camera pans left   over a &amp; quiet harbour ', 'The camera pans left over a & quiet harbour'],
    ['a &amp;amp;lt; b', 'a &lt; b'],
    ['fish &amp;amp; chips', 'fish & chips'],
    ['Caf&eacute; &copy 2024 &notit;', 'Café © 2024 ¬it;'],
    ['\u0085a\u00a0\u3000b\r\n\tc\u2028', 'a b c'],
    ['&#39;quoted&#x27; &#8212;', "'quoted' —"],
    ['AT&T &unknown; R&D', 'AT&T &unknown; R&D'],
    ['', ''],
    ['it’s a ‘small’ “house”', "it's a 'small' \"house\""],
    ['KEEP Capitals', 'KEEP Capitals'],
  ];
  for (const [i, [text, cleaned]] of cases.entries()) t.equal(cleanPrompt(text), cleaned, `case ${i}`);
});
