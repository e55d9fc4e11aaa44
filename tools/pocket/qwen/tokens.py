"""
200 strings and their ids by the reference tokenizer (Hugging Face `tokenizers` on the model's tokenizer.json), for the test
that llama.cpp cuts them the same way.

    python tokens.py ../../../models/pocket/qwen/tokenizer.json > ../../../test/fixtures/pocket-qwen-tokens.json
"""
import json
import random
import sys

from tokenizers import Tokenizer

from check_texts import LISTS, LONG, SCRIPTS, SHORT
from documents import document
from free_text import foreign, signs

COUNT = 200
TRICKY = [
    "", " ", "  ", "   a", "a   ", "a  b   c", "\n", "\n\n", "a\nb", "a\r\nb\r\n", " \n a", "\t", "\ta\tb", "a \t b", "a\n\n\n  b", "\u00a0a\u00a0b", "a\u2003b", "a\u2028b\u2029c", "\u3000全角",
    "I'm you're he'll we've they'd it's can't", "I'M YOU'RE HE'LL", "rock'n'roll 'tis", "’s ’t", "don`t", "1", "12", "1234567890", "3.14159", "1,000,000", "2nd 3rd 4th", "v1.2.3-rc4", "0x7f", "½ ² ³ ①", "٣٤٥", "१२३",
    "...", "?!", "a.b.c", "(a) [b] {c}", "\"quoted\"", "--flag=value", "a/b\\c", "#tag @name", "$5 £6 €7", "x_y_z", "a+b=c", "<b>bold</b>", "<|foo|>", "<|im_start", "|im_end|>", "e\u0301 e\u0300", "\u00e9", "n\u0303o", "\u0d95\u0dca", "a\u0308o\u0308u\u0308",
    "👩‍👩‍👧‍👦", "🇩🇪🇯🇵", "👍🏽", "❤️", "☃", "🐙🚀✨", "a🙂b", "\ufeffbom", "zero\u200bwidth", "soft\u00adhyphen", "\u0001\u0002", "tab\x0bvertical", "a\u0085b", "𝒜𝓁𝓅𝒽𝒶", "ﬁ ligature", "Ｆｕｌｌ", "ǅ ǆ", "ſharp ß ẞ", "İstanbul ı", "Ωμέγα ς",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "camelCaseWord", "supercalifragilisticexpialidocious", "   leading and trailing   ",
]


def strings():
    r = random.Random(200)
    out = TRICKY + LONG[:12] + LISTS[:8] + SCRIPTS + SHORT[:24] + [foreign(r) for _ in range(15)] + [signs(r) for _ in range(15)]
    while len(out) < COUNT + 5:
        out.append("".join(piece[0] for piece in document(r)))
    return list(dict.fromkeys(out))[:COUNT]


if __name__ == "__main__":
    tokenizer = Tokenizer.from_file(sys.argv[1])
    items = [{"text": text, "ids": tokenizer.encode(text).ids} for text in strings()]
    assert all(tokenizer.decode(item["ids"], skip_special_tokens=False) == item["text"] for item in items)
    print("[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]")
