"""Text from outside the pocket worlds: unknown words, lists, capitals, long sentences, other scripts, numbers and signs."""
import math
import random
import string

from words import *

VOWELS, CONSONANTS = "aeiouy", "bcdfghjklmnprstvwz"
ACCENTED = "äöüßéèêëàâçñøåæœíóúáîïôūşğčžłńśř"
BLOCKS = [(0x4E00, 0x9FA5), (0x3041, 0x3096), (0x30A1, 0x30FA), (0xAC00, 0xD7A3), (0x0410, 0x044F), (0x0391, 0x03C9), (0x0621, 0x064A), (0x05D0, 0x05EA),
          (0x0905, 0x0939), (0x0E01, 0x0E2E), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x10A0, 0x10FF), (0x0530, 0x0556), (0x00C0, 0x017F), (0x2190, 0x21FF)]
BEGINNINGS = ["un", "re", "over", "out", "inter", "pre", "dis", "sub", "under", "photo", "micro"]
ENDINGS = ["ing", "ed", "s", "er", "ers", "ly", "tion", "tions", "ness", "ous", "ment", "able", "al", "ity", "ive", "est", "ful", "less", "ish", "ism", "ist", "ic", "ary", "ance", "ward", "ways"]
SPLICE_HEADS = ["sky", "sun", "back", "moon", "star", "circ", "tri", "squ", "hea", "hou", "sea", "hill", "tree", "cloud", "small", "larg", "plain", "whi", "bla", "blu", "day", "night", "up", "left", "right"]


def invented(r: random.Random) -> str:
    kind = r.random()
    if kind < 0.5:
        word = "".join(r.choice(CONSONANTS) + r.choice(VOWELS) + (r.choice(CONSONANTS) if r.random() < 0.4 else "") for _ in range(r.randint(1, 4)))
    elif kind < 0.68:
        word = "".join(r.choice(string.ascii_lowercase) for _ in range(r.randint(1, 10)))
    elif kind < 0.86:
        word = r.choice(SPLICE_HEADS + NOUNS + ADJECTIVES)[: r.randint(2, 7)] + r.choice(NOUNS + ADJECTIVES + VERBS)[r.randint(0, 3):]
    else:
        word = "".join(r.choice(string.ascii_lowercase if r.random() < 0.75 else ACCENTED) for _ in range(r.randint(2, 9)))
    extra = r.random()
    if extra < 0.04:
        word += "-" + r.choice(NOUNS)
    elif extra < 0.07:
        word += str(r.randint(0, 9999))
    elif extra < 0.09:
        word += "'s"
    return word


def derived(r):
    """Unknown words that look like English: a stem and an ending."""
    stem = r.choice(NOUNS + ADJECTIVES)[: r.randint(2, 6)] if r.random() < 0.4 else invented(r)[: r.randint(2, 7)]
    return (r.choice(BEGINNINGS) if r.random() < 0.15 else "") + stem + r.choice(ENDINGS)


def word(r):
    kind = r.random()
    if kind < 0.32:
        return r.choice(NOUNS)
    if kind < 0.42:
        return derived(r)
    if kind < 0.56:
        return r.choice(ADJECTIVES)
    if kind < 0.66:
        return r.choice(VERBS)
    if kind < 0.72:
        return r.choice(NAMES + PLACES)
    return invented(r)


def noun(r):
    return r.choice(NOUNS) if r.random() < 0.5 else invented(r)


def phrase(r):
    article = r.choice(["a", "a", "the", "an old", "two", "three", "some", "my", "five", "every", "his", "her", ""])
    adjective = (r.choice(ADJECTIVES) if r.random() < 0.7 else r.choice(COLOURS + SIZES) if r.random() < 0.5 else invented(r)) if r.random() < 0.6 else ""
    return " ".join(x for x in (article, adjective, noun(r)) if x)


def sentence(r):
    out = [phrase(r)]
    for _ in range(r.choices([0, 1, 2, 3], [20, 40, 28, 12])[0]):
        kind = r.random()
        if kind < 0.4:
            out.append(f"{r.choice(VERBS)} {r.choice(PREPOSITIONS) + ' ' if r.random() < 0.6 else ''}{phrase(r)}")
        elif kind < 0.8:
            out.append(f"{r.choice(PREPOSITIONS)} {phrase(r)}")
        elif kind < 0.9:
            out.append(f"in {r.choice(PLACES)}")
        else:
            out.append(r.choice(["at night", "at sunset", "in the rain", "on a sunny day", "in winter", "at dawn"]))
    text = " ".join(out)
    if r.random() < 0.2:
        text += ", " + ", ".join(r.choice(TAGS + [phrase(r)]) for _ in range(r.randint(1, 4)))
    return text


def jumble(r):
    out = []
    for _ in range(r.choices([r.randint(1, 4), r.randint(5, 14), r.randint(15, 30)], [45, 40, 15])[0]):
        kind = r.random()
        w = r.choice(FUNCTION_WORDS) if kind < 0.3 else word(r) if kind < 0.8 else r.choice(COLOURS + SHAPES + SIZES + RELATIONS + ["background", "sky", "sun", "moon", "house", "sea"])
        if r.random() < 0.08:
            w = w.capitalize()
        out.append(w + (r.choice([",", ",", ".", ";", ":", " -", "!", "?"]) if r.random() < 0.09 else ""))
    return " ".join(out)


def prose(r):
    """Running text: half function words, the rest from a small stock, so that words and spans come back again and again."""
    stock = [word(r) for _ in range(r.randint(3, 40))]
    functions = r.sample(FUNCTION_WORDS, r.randint(5, 40))
    out = []
    for _ in range(int(math.exp(r.uniform(math.log(5), math.log(75))))):
        w = r.choice(functions) if r.random() < 0.5 else r.choice(stock)
        kind = r.random()
        out.append(w + (", " if kind < 0.08 else r.choice(["; ", ": ", "-", " - ", "... ", "'s "]) if kind < 0.12 else ". " if kind < 0.15 else " "))
        if len(out) > 6 and r.random() < 0.02:
            start = r.randrange(len(out) - 3)
            out += out[start: start + r.randint(3, 14)]
    text = "".join(out).strip()
    return text if r.random() < 0.4 else text[:1].upper() + text[1:]


def tailed(r, world_prompt):
    """A phrase of the world that the rest of the sentence makes something else: "a heart of stone"."""
    tail = " ".join(r.choice([lambda: r.choice(["of", "that", "for", "like", "from", "is", "was", "with", "without", "which", "who", "as"]), lambda: word(r), lambda: phrase(r)])() for _ in range(r.randint(2, 6)))
    colour, shape = r.choice(COLOURS), r.choice(SHAPES + ["house", "sea", "sun", "moon", "sky"])
    head = r.choice([world_prompt, f"a {shape}", f"the {shape}", shape, f"a {colour} {shape}", f"a {r.choice(SIZES)} {colour} {word(r)}", f"{colour} {word(r)}", f"a {r.choice(SIZES)} {word(r)}", f"{shape} {word(r)}"])
    return f"{head} {tail}"


def mixed_with_world(r, world_prompt):
    """A sentence of the world with words of other origin in it."""
    if r.random() < 0.3:
        return tailed(r, world_prompt)
    words_ = world_prompt.split()
    for _ in range(r.choice([1, 1, 2, 3])):
        place = r.randrange(len(words_))
        if r.random() < 0.5:
            words_[place] = word(r)
        else:
            words_.insert(place, word(r) if r.random() < 0.7 else r.choice(FUNCTION_WORDS) + " " + noun(r))
    return " ".join(words_)


def listing(r):
    items = [r.choice([phrase, noun, lambda q: q.choice(TAGS), lambda q: f"a {q.choice(COLOURS)} {noun(q)}"])(r) for _ in range(r.randint(2, 9))]
    return ", ".join(items[:-1]) + r.choice([" and ", ", and ", ", "]) + items[-1]


def foreign(r):
    low, high = r.choice(BLOCKS)
    other = r.choice(BLOCKS)
    groups = []
    stock = [chr(r.randint(low, high)) for _ in range(r.randint(4, 40))]
    for _ in range(r.choices([1, 2, 3, 6, 10], [38, 25, 15, 13, 9])[0]):
        a, b = (low, high) if r.random() < 0.9 else other
        most = 9 if r.random() < 0.8 else 26
        groups.append("".join(r.choice(stock) if r.random() < 0.5 else chr(r.randint(a, b)) for _ in range(r.randint(1, most))))
    if r.random() < 0.06:
        groups += groups[: 4]
    if r.random() < 0.25:
        groups.insert(r.randrange(len(groups) + 1), word(r))
    text = (" " if r.random() < 0.75 else "").join(groups)
    return text + r.choice(["", "", "", "。", "!", ".", "？", " 😀"])


def signs(r):
    pieces = []
    for _ in range(r.randint(1, 7)):
        pieces.append(r.choice([
            lambda: "".join(r.choice(string.ascii_letters + string.digits + "!#$%&()*+-./:=?@[]^_{}~") for _ in range(r.randint(2, 12))),
            lambda: f"({word(r)}:{r.randint(1, 19) / 10})", lambda: str(r.randint(0, 10 ** r.randint(1, 8))), lambda: f"{word(r)}{r.randint(1, 99)}",
            lambda: f"\"{phrase(r)}\"", lambda: f"{word(r)}/{word(r)}", lambda: f"#{word(r)}", lambda: f"{r.randint(1, 12)}:{r.randint(10, 59)} pm", lambda: word(r), lambda: f"{word(r)} & {word(r)}",
            lambda: f"{word(r)}_{word(r)}.png", lambda: f"{word(r)}@{word(r)}.{r.choice(['org', 'com', 'net'])}", lambda: f"{word(r)} -- {word(r)}",
        ])())
    return " ".join(pieces)


def long_text(r):
    out, target = [], r.randint(20, 110)
    while sum(len(s.split()) for s in out) < target:
        s = sentence(r) if r.random() < 0.75 else jumble(r)
        out.append(s[:1].upper() + s[1:] + ".")
    return " ".join(out) if r.random() < 0.85 else "\n".join(out[:4])


def cased(r, text):
    kind = r.random()
    if kind < 0.4:
        return text.upper()
    if kind < 0.7:
        return text.title()
    if kind < 0.85:
        return " ".join(w.upper() if r.random() < 0.35 else w for w in text.split(" "))
    return "".join(c.upper() if r.random() < 0.4 else c for c in text)


def free(r: random.Random, world_prompt) -> str:
    """Any text that is not the worlds' own; `world_prompt()` gives one of theirs to be mixed or written in capitals."""
    kind = r.choices(["sentence", "prose", "jumble", "mixed", "list", "cased", "foreign", "signs", "long", "words"], [15, 20, 9, 14, 8, 8, 10, 5, 5, 6])[0]
    if kind == "sentence":
        text = sentence(r)
    elif kind == "prose":
        text = prose(r)
    elif kind == "jumble":
        text = jumble(r)
    elif kind == "mixed":
        text = mixed_with_world(r, world_prompt())
    elif kind == "list":
        text = listing(r)
    elif kind == "cased":
        text = cased(r, world_prompt() if r.random() < 0.4 else sentence(r))
    elif kind == "foreign":
        text = foreign(r)
    elif kind == "signs":
        text = signs(r)
    elif kind == "long":
        text = long_text(r)
    else:
        text = " ".join(word(r) for _ in range(r.randint(1, 3)))
    if kind in ("sentence", "list", "words", "mixed"):
        if r.random() < 0.3:
            text = text[:1].upper() + text[1:]
        if r.random() < 0.18:
            text += r.choice([".", ".", "!", "?", "..."])
        if r.random() < 0.05:
            text = r.choice(PREFIXES) + " " + text
    return " ".join(text.split(" ")).strip() or "x"
