"""A scene in words, in any of some 10^5 structures: parts in any order, each in many forms, with words between that mean nothing here.

    from language import compose
    compose(random.Random(1), {"objects": [{"shape": "circle", "colour": "red", "place": "left"}], "background": "blue"})

Only what the scene has is said: leave a key out, or None, for what is not to be said. README.md names the keys.
"""

import random
from dataclasses import dataclass, field

from . import words as w

# words of a text before they are joined: (word, owner), where owner is (object, is it the noun) or None
NOWHERE = None


@dataclass
class Caption:
    text: str
    spans: dict = field(default_factory=dict)
    """Object -> (start, end) of its phrase in `text`: adjectives and noun; not there when nothing names the object."""
    nouns: dict = field(default_factory=dict)
    """Object -> (start, end) of the noun alone."""


def plain(text):
    return [(word, NOWHERE) for word in text.split()]


def owned(text, index, noun=False):
    return [(word, (index, noun)) for word in text.split()]


def an(text):
    """The article before a text or a list of words."""
    first = text if isinstance(text, str) else (text[0][0] if text else "")
    return "an" if first[:1] in "aeiou" else "a"


def comma(parts):
    """Marks the last word of `parts` as followed by a comma."""
    return parts[:-1] + [(parts[-1][0] + ",", parts[-1][1])] if parts else parts


class Composer:
    def __init__(self, rng, scene, clip=False):
        self.rng, self.scene, self.clip = rng, scene, clip
        self.objects = [dict(item) for item in scene.get("objects") or []]
        # telegrams have no small words; commas are left out by some writers altogether
        self.terse = rng.random() < 0.3
        self.commas = rng.random() < 0.7
        self.filler = rng.choice([0, 0, 0, 0.08, 0.15, 0.3])
        self.tags = []
        self.later = []  # facts to be said in clauses of their own

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, options):
        return self.rng.choice(options)

    # small things

    def junk_word(self):
        roll = self.rng.random()
        if roll < 0.4:
            return self.pick(w.NOUNS)
        if roll < 0.7:
            return self.pick(w.ADJECTIVES)
        if roll < 0.8:
            return self.pick(w.NAMES)
        return "".join(self.pick(w.SYLLABLES) for _ in range(self.rng.randint(2, 4)))

    def unknown_noun(self):
        return self.pick(w.NOUNS) if self.chance(0.75) else "".join(self.pick(w.SYLLABLES) for _ in range(self.rng.randint(2, 3)))

    def colour(self, name):
        word = self.pick(w.COLOURS[name])
        return f"{self.pick(w.SHADES)} {word}" if self.chance(0.05) else word

    def size(self, name):
        word = self.pick(w.SIZES[name])
        return f"{self.pick(w.DEGREES)} {word}" if self.chance(0.1) else word

    def colour_word(self):
        return self.pick(["colour", "color"])

    # one object

    def name(self, index, many=False):
        """Noun of the object, or of any shape."""
        item = self.objects[index]
        if item.get("shape"):
            options = w.SHAPES[item["shape"]]
        elif item.get("unknown"):
            return item["unknown"] + ("s" if many else "")
        else:
            options = w.ANY_SHAPE
        return self.pick(options)[1 if many else 0]

    def after(self, index, facts):
        """Facts said behind the noun: 'in red', 'that is small and red', '(red)', ', small'."""
        item, words = self.objects[index], []
        said = {"colour": lambda: self.colour(item["colour"]), "size": lambda: self.size(item["size"]), "outline": lambda: self.pick(w.OUTLINE[item["outline"]][:4])}
        texts = [said[fact]() for fact in facts]
        if len(facts) == 1 and facts[0] == "colour" and self.chance(0.6):
            c = texts[0]
            return owned(self.pick([f"in {c}", f"in {c}", f"of {c} {self.colour_word()}", f"of {self.colour_word()} {c}", f"coloured {c}", f"colored {c}", f"painted {c}", f"which is {c}", f"that is {c}", f"filled with {c}" if not item.get("outline") else f"in {c}",
                                    f"all {c}", f"({c})", f"whose {self.colour_word()} is {c}", f"with {self.colour_word()} {c}", f"done in {c}"]), index)
        if len(facts) == 1 and facts[0] == "size" and self.chance(0.4):
            s = texts[0]
            return owned(self.pick([f"of {s} size", f"that is {s}", f"which is {s}", f"{s} in size", f"({s})", f"that looks {s}", f"and it is {s}"]), index)
        if len(facts) == 1 and facts[0] == "outline" and self.chance(0.6):
            return owned(self.pick(["drawn as an outline", "outline only", "only the outline", "not filled in", "as an outline", "(outline)", "with nothing inside", "just the outline"]) if item["outline"] else self.pick(["filled in", "completely filled", "that is filled"]), index)
        self.rng.shuffle(texts)
        joined = (" and " if self.chance(0.6) else ", ").join(texts)
        return owned(self.pick([f"that is {joined}", f"which is {joined}", f", {joined}", f"({joined})", f"{joined}", f"being {joined}", f"- {joined} -" if self.chance(0.3) else f"that's {joined}"]) if not self.terse
                     else self.pick([joined, f", {joined}", f"({joined})"]), index)

    def noun_phrase(self, index, article=None, defer=0.12):
        """Words of the object: number or article, what stands before the noun, the noun, what stands behind."""
        item = self.objects[index]
        many = (item.get("count") or 1) > 1
        front, back = [], []
        facts = [f for f in ("size", "colour", "outline") if item.get(f) is not None]
        if self.chance(0.35):
            self.rng.shuffle(facts)
        for fact in facts:
            if self.chance(0.02) and len(facts) > 1:
                continue
            roll = self.rng.random()
            if roll < defer and not many and self.may_defer(index):
                self.later.append((index, fact))
            elif roll < defer + 0.14:
                back.append(fact)
            else:
                front.append(fact)
        before = []
        ended = None
        for k, fact in enumerate(front):
            if fact == "outline" and item["outline"] and self.chance(0.25):
                ended = self.pick(["outline", "outlines"]) if many else "outline"
                continue
            text = {"colour": lambda: self.colour(item["colour"]) + (self.pick(["-coloured", "-colored", " coloured", " colored"]) if self.chance(0.04) else ""), "size": lambda: self.size(item["size"]),
                    "outline": lambda: self.pick(w.OUTLINE[item["outline"]][:4] if item["outline"] else w.OUTLINE[False])}[fact]()
            if before and self.commas and self.chance(0.15):
                before = comma(before)
            elif before and self.chance(0.08):
                before += owned("and", index)
            before += owned(text, index)
        if self.chance(0.05 + self.filler / 3):
            before.insert(self.rng.randint(0, len(before)), (self.pick(w.ADJECTIVES), (index, False)))
        noun = self.name(index, many and ended is None)
        after = self.after(index, back) if back else []
        if ended and self.chance(0.4):
            # the outline of a red circle
            phrase = owned(ended + (" of a" if not many else " of"), index) + before + owned(noun, index, True)
            if many:
                phrase = owned(ended + " of", index) + before + owned(self.name(index, True), index, True)
        else:
            phrase = before + owned(noun, index, True) + (owned(ended, index) if ended else [])
        if many:
            number = self.pick(w.NUMBERS[item["count"]])
            if article is None and self.chance(0.12):
                short, digit = w.NUMBERS[item["count"]][0], item["count"]
                tail = [f"{short} of them", f"x{digit}", f"x {digit}", f"({short})", f"({digit})", f"{short} in number", f"{digit} pieces", f"number: {digit}", f"exactly {short}", f"{digit} times"]
                return (comma(phrase + after) if self.commas and self.chance(0.5) else phrase + after) + plain(self.pick(tail))
            phrase = plain(number if article is None or self.chance(0.9) else f"the {number}") + phrase
            if self.chance(0.03):
                phrase = plain("exactly") + phrase
        else:
            article = article or self.pick(["a"] * 14 + ["one", "the", "a single", "1", "some", "just one", ""])
            if self.terse and self.chance(0.8):
                article = ""
            phrase = plain(an(phrase) if article == "a" else article) + phrase
        phrase += after
        if self.chance(self.filler / 4):
            phrase = phrase + plain(self.pick([f"from {self.pick(w.NAMES)}", f"like {an('x')} {self.unknown_noun()}", f"for {self.pick(w.NAMES)}", f"called {self.pick(w.NAMES)}", f"made of {self.unknown_noun()}", f"({self.junk_word()})"]))
        return phrase

    def may_defer(self, index):
        """A fact may be said later where "it" or the noun is clear."""
        if self.terse and self.chance(0.7):
            return False
        shapes = [item.get("shape") for item in self.objects]
        return len(self.objects) == 1 or (len(set(shapes)) == len(shapes) and None not in shapes)

    def clause_of_fact(self, index, fact):
        """'it is red', 'the circle is small', 'colour: red'."""
        item = self.objects[index]
        what = {"colour": lambda: self.colour(item["colour"]), "size": lambda: self.size(item["size"]), "outline": lambda: self.pick(["only an outline", "outlined", "hollow", "not filled"]) if item["outline"] else "filled", "place": lambda: self.place(item["place"])}[fact]()
        alone = len(self.objects) == 1
        subject = self.pick(["it", "it", "this", "the " + self.name(index), "the shape"]) if alone else "the " + self.name(index)
        forms = [f"{subject} is {what}", f"{subject} is {what}", f"{subject} should be {what}", f"{subject} must be {what}", f"make {subject} {what}", f"{subject} being {what}", f"{subject} has to be {what}", f"with {subject} {what}", f"the {self.name(index)} {what}"]
        if alone:
            forms += [f"and {what}", f"{what} please", f"it's {what}", what, what, f"{subject} {what}"]
            if fact in ("colour", "size"):
                label = self.colour_word() if fact == "colour" else "size"
                forms += [f"{label}: {what}", f"{label} {what}", f"its {label} is {what}", f"the {label} is {what}", f"in {what}" if fact == "colour" else f"{what} one", f"{label} = {what}"]
        if fact == "place":
            forms += [f"{self.pick(w.PUTS)} {subject} {what}", f"{subject} {self.pick(w.SITS[:6])} {what}"]
        return plain(self.pick(forms))

    def place(self, name):
        """A prepositional phrase; short forms like "left" are for telegrams."""
        while True:
            text = self.pick(w.PLACES[name])
            if self.clip and text.split()[0] in ("to", "towards"):
                continue
            if len(text.split()) > 1 or text in ("centred", "centered") or self.terse:
                return text + (f" {self.pick(['of the picture', 'of the image', 'of it all', 'of the page', 'of the frame', 'of everything', 'of the canvas'])}" if text.split()[0] in ("on", "in", "at", "near") and text.split()[-1] not in ("right", "top") and self.chance(0.12) and len(text.split()) > 2 else "")

    def placed(self, index, phrase):
        """The phrase with the object's place before or behind it."""
        item = self.objects[index]
        if not item.get("place"):
            return phrase
        where = plain(self.place(item["place"]))
        roll = self.rng.random()
        if roll < 0.5:
            link = self.pick([""] * 6 + ["placed", "located", "positioned", "sitting", "that is", "which is", "standing", "somewhere", "set"]) if not self.terse else ""
            return (comma(phrase) if self.commas and self.chance(0.12) else phrase) + plain(link) + where
        if roll < 0.78:
            link = self.pick(["", "", "", "there is", "is", "sits", "i want", "we see", "put", "there should be", "goes", "with", "there's", "have"]) if not self.terse else ""
            return (comma(where) if self.commas and self.chance(0.55) else where) + plain(link) + phrase
        if roll < 0.86:
            return plain(self.pick(w.SPOTS[item["place"]]) + self.pick([":", ":", " =", " -", " :"])) + phrase
        self.later.append((index, "place"))
        return phrase

    # movement

    def moving(self, index, phrase):
        """The phrase with what the object does."""
        item = self.objects[index]
        motion, speed = item.get("motion"), item.get("speed")
        if not motion:
            return phrase
        bare, third, ing = self.pick(w.MOTIONS[motion])
        pace = plain(self.pick(w.SPEEDS[speed])) if speed else []
        if speed and motion in ("left", "right", "up", "down") and self.chance(0.1):
            way = self.pick(w.WAYS[motion])
            bare, third, ing = (f"{verb} {way}" for verb in self.pick(w.HASTE[speed]))
            pace = []

        def paced(verb):
            verb = plain(verb)
            if not pace:
                return verb
            roll = self.rng.random()
            if roll < 0.22 and pace[0][0] not in ("at", "in", "bit"):
                return pace + verb
            if roll < 0.3 and len(verb) > 1 and pace[0][0] not in ("at", "in", "bit"):
                return verb[:1] + pace + verb[1:]
            return (comma(verb) if self.commas and self.chance(0.12) else verb) + pace

        subject = comma(phrase) if self.commas and self.chance(0.15) else phrase
        if self.commas and self.chance(0.12):
            # as tags of their own, somewhere behind
            self.tags += [plain(self.pick([third, ing]))] + ([pace] if pace else [])
            return phrase
        roll = self.rng.random()
        if roll < 0.3:
            return subject + paced(third)
        if roll < 0.55:
            return subject + paced(ing)
        if roll < 0.63:
            return subject + plain(self.pick(["that", "which", "that just"])) + paced(third)
        if roll < 0.68:
            return subject + plain(self.pick(["and it", "as it", "while it", ". it", "; it"])) + paced(third)
        if roll < 0.74:
            return comma(paced(ing)) + phrase if self.commas else paced(ing) + plain(":") + phrase
        if roll < 0.80:
            return plain(self.pick(["make", "have", "let", "i want to see", "watch", "see"])) + phrase + paced(bare if not bare.startswith(("not", "be ")) else "stay still")
        if roll < 0.85:
            return plain(self.pick(["i want", "i'd like", "get"])) + phrase + plain("to") + paced(bare if not bare.startswith("not") else "stay still")
        if roll < 0.92:
            text = self.pick([f"motion: {self.pick(w.WAYS[motion])}", f"movement: {self.pick(w.WAYS[motion])}", f"motion {self.pick(w.WAYS[motion])}", f"({ing})", f"movement {self.pick(w.WAYS[motion])}", f"action: {ing}"])
            if speed:
                text += self.pick([f", speed: {self.pick(w.PACES[speed])}", f", {self.pick(w.PACES[speed])}", f" ({self.pick(w.PACES[speed])})", f" speed {self.pick(w.PACES[speed])}"])
            return comma(phrase) + plain(text) if self.chance(0.5) else plain(text + ",") + phrase
        if speed and roll < 0.96 and motion in ("left", "right", "up", "down", "orbit", "blink"):
            return subject + plain(self.pick(["with a", "in a", "making a"])) + plain(f"{self.pick(w.PACES[speed][:2])} {self.pick(['movement', 'motion'])} {self.pick(w.WAYS[motion][:2])}")
        return subject + plain(self.pick(["starts to", "begins to", "is going to", "will", "can", "should", "would"])) + paced(bare if not bare.startswith("not") else "stay still")

    # several objects

    def form(self, index):
        """The object as a form that is filled in: 'shape: circle, colour: red'."""
        item, rows = self.objects[index], []
        for key, value in (("shape", lambda: self.name(index)), ("colour", lambda: self.colour(item["colour"])), ("size", lambda: self.size(item["size"])), ("place", lambda: self.place(item["place"]))):
            if item.get(key):
                label = {"shape": ["shape", "object", "what", "figure"], "colour": ["colour", "color"], "size": ["size"], "place": ["position", "place", "where", "location"]}[key]
                rows.append(plain(self.pick(label) + self.mark) + owned(value(), index, key == "shape"))
        if (item.get("count") or 1) > 1:
            rows.append(plain(f"{self.pick(['number', 'count', 'how many', 'quantity'])}{self.mark} {self.pick(w.NUMBERS[item['count']][:3])}"))
        self.rng.shuffle(rows)
        seam = self.pick([",", ";", ",", ".", "|", "/"]) if self.commas else ""
        return [word for k, row in enumerate(rows) for word in (plain(seam) if k else []) + row]

    def thing(self, index, **options):
        item = self.objects[index]
        if len(self.objects) == 1 and item.get("shape") and not item.get("outline") and not item.get("motion") and self.chance(0.05):
            self.mark = self.pick([":", " =", " :", " is", " -"])
            return self.form(index)
        return self.moving(index, self.placed(index, self.noun_phrase(index, **options)))

    def related(self):
        """Two objects and where they stand to each other; each direction of saying it is as likely."""
        relation = self.scene["relation"]
        first, second = (0, 1) if self.chance(0.6) else (1, 0)
        if first == 1:
            relation = w.INVERSE[relation]
        a, b = self.noun_phrase(first), self.noun_phrase(second)
        verb = plain(self.pick(w.SITS)) if not self.terse and self.chance(0.2) else []
        word = plain(self.pick(w.RELATIONS[relation]))
        to_it = plain(self.pick(w.TO_IT[relation]))
        ends = w.ENDS[relation]
        roll = self.rng.random()
        if roll < 0.36:
            return a + verb + word + b
        if roll < 0.46:
            link = plain(self.pick(["", "there is", "is", "sits", "we have", "put", "i want"])) if not self.terse else []
            return (comma(word + b) if self.commas and self.chance(0.4) else word + b) + link + a
        if roll < 0.58:
            link = self.pick([("with", ""), ("and", ""), (",", ""), ("has", ""), (";", ""), ("and then", ""), (". there is", "")]) if self.commas else self.pick([("with", ""), ("and", ""), ("has", "")])
            return b + plain(link[0]) + a + to_it
        if roll < 0.68:
            return b + plain(self.pick([", and", "and", ";", ",", ".", "with,", "-"]) if self.commas else "and") + (comma(to_it) if self.commas and self.chance(0.4) else to_it) + plain(self.pick(["", "", "there is", "is", "put"])) + a
        if roll < 0.86:
            # by the places of both, in either order
            both = [(a, ends[0]), (b, ends[1])]
            if self.chance(0.4):
                both.reverse()
            if self.chance(0.2):
                mark = self.pick([":", " -", " ="])
                pieces = [plain(self.pick(w.SPOTS[end]) + mark) + phrase for phrase, end in both]
            elif self.chance(0.4):
                pieces = [plain(self.place(end)) + plain(self.pick(["", "", "there is", "is"])) + phrase for phrase, end in both]
            else:
                pieces = [phrase + plain(self.place(end)) for phrase, end in both]
            return pieces[0] + plain(self.pick(["and", "and", ",", ";", ", and", "while", "with"]) if self.commas else "and") + pieces[1]
        if roll < 0.93:
            names = [self.name(0), self.name(1)]
            if names[0] != names[1]:
                tail = [f"the {names[first]} {self.pick(w.SITS)} {' '.join(t for t, _ in word)} the {names[second]}", f"with the {names[first]} {' '.join(t for t, _ in word)} the {names[second]}",
                        f"{names[first]} {' '.join(t for t, _ in word)} {names[second]}", f"the {names[first]} is {' '.join(t for t, _ in word)} it"]
                pair = [a, b] if self.chance(0.5) else [b, a]
                if tail[-1] and pair[0] is a:
                    tail.pop()
                return pair[0] + plain("and") + pair[1] + plain(self.pick([",", ".", ";", "-", ""]) if self.commas else "") + plain(self.pick(tail))
        return a + verb + word + b

    def listed(self):
        """Objects side by side, in any order."""
        order = list(range(len(self.objects)))
        self.rng.shuffle(order)
        together = self.pick(w.TOGETHER)
        if len(order) == 2 and self.chance(0.12):
            one, two = (self.objects[i] for i in order)
            if one.get("colour") and two.get("colour") and one.get("shape") and two.get("shape") and not one.get("count") and not two.get("count"):
                kept = [(i, self.objects[i]["colour"]) for i in order]
                names = [self.name(i) for i in order]
                for i, _ in kept:
                    self.objects[i]["colour"] = None
                phrases = [self.noun_phrase(i) for i in order]
                colours = [self.colour(c) for _, c in kept]
                for i, c in kept:
                    self.objects[i]["colour"] = c
                tails = [f"{colours[0]} and {colours[1]} respectively", f"the first {colours[0]}, the second {colours[1]}", f"the first one is {colours[0]} and the second one is {colours[1]}", f"one {colours[0]} and one {colours[1]}"]
                if names[0] != names[1]:
                    tails += [f"the {names[0]} is {colours[0]} and the {names[1]} is {colours[1]}", f"the {names[0]} in {colours[0]}, the {names[1]} in {colours[1]}", f"{names[0]} {colours[0]} and {names[1]} {colours[1]}",
                              f"where the {names[0]} is {colours[0]} and the {names[1]} {colours[1]}"] * 2
                return comma(phrases[0] + plain("and") + phrases[1]) + plain(self.pick(tails))
        phrases = [self.placed(i, self.noun_phrase(i)) for i in order]
        if len(phrases) > 2:
            out = []
            for k, phrase in enumerate(phrases[:-1]):
                out += comma(phrase) if self.commas else phrase + plain("and")
            return out + plain(self.pick(["and", "and", ""]) if self.commas else "") + phrases[-1]
        if not self.terse and self.chance(0.06):
            return plain("both") + phrases[0] + plain("and") + phrases[1]
        if self.commas and self.chance(0.2):
            return comma(phrases[0]) + phrases[1] + plain(self.pick(["", "", "side by side", "together", "in one picture", "next to each other"]))
        return phrases[0] + plain(together) + phrases[1] + plain(self.pick([""] * 6 + ["side by side", "together", "in one picture"]))

    # what lies around

    def background(self):
        """(words, can it stand first, can it stand behind the rest without a comma)."""
        c = self.colour(self.scene["background"])
        g = self.pick(w.GROUNDS)
        kind = self.pick(["", "", "", "plain ", "solid ", "simple ", "flat "])
        if self.terse:
            return plain(self.pick([f"{c} {g}", f"{c} {g}", f"{c} {g}", f"{g} {c}", f"{g}: {c}", f"{kind}{c} {g}", f"on {c}", f"{c} bg", f"bg {c}", f"on {c} {g}", f"{g}={c}", f"{c} behind"]))
        roll = self.rng.random()
        if roll < 0.55:
            head = self.pick(["on", "on", "on", "against", "in front of", "over", "with", "set against", "set on", "upon", "before", "placed on", "and", "in"])
            head = "on" if head == "in" else head
            return plain(f"{head} {self.pick([an(kind + c)] * 4 + ['the'])} {kind}{c} {g}")
        if roll < 0.65:
            return plain(self.pick([f"on {c}", f"against {c}", f"on plain {c}", f"all on {c}", f"with {c} behind", f"with {c} behind it", f"with {c} all around", f"over {c}", f"on top of plain {c}", f"in front of {c}", f"surrounded by {c}"]))
        if roll < 0.82:
            return plain(self.pick([f"the {g} is {c}", f"the {g} is {c}", f"{g} is {c}", f"the {g} should be {c}", f"make the {g} {c}", f"with the {g} in {c}", f"the {g} being {c}", f"the {g} has to be {c}", f"the {g} in {c}", f"whose {g} is {c}",
                                    f"i want the {g} {c}", f"everything else is {c}", f"the rest is {c}", f"let the {g} be {c}", f"the {g} must be {c}", f"its {g} is {c}", f"colour the {g} {c}", f"paint the {g} {c}"]))
        return plain(self.pick([f"{c} {g}", f"{kind}{c} {g}", f"{g}: {c}", f"{g} {c}", f"a {g} in {c}", f"{c} as the {g}", f"{g} colour {c}", f"{g} color: {c}", f"{an(c)} {c} {g}", f"{g} of {c}", f"{g} = {c}", f"{c} for the {g}"]))

    def land_parts(self):
        land, parts = self.scene["land"], []
        if land.get("sky"):
            parts.append(plain(self.pick(w.SKIES[land["sky"]])))
        if land.get("light"):
            name = land["light"]
            text = self.pick(["the ", "a ", "the ", ""]) + name if not self.terse else name
            if land.get("light_at"):
                where = self.place(land["light_at"])
                text = self.pick([f"{text} {where}", f"{text} {where}", f"{where} {text}", f"{text} is {where}", f"{where}, {text}", f"{text} {self.pick(['shining', 'standing', 'hanging', 'shines', 'glowing'])} {where}"])
            parts.append(plain(text))
        if land.get("clouds"):
            parts.append(plain(self.pick(w.CLOUDS)))
        ground = land.get("ground")
        if ground in ("hills", "both"):
            parts.append(plain(self.pick(w.HILLS)))
        if ground in ("sea", "both"):
            parts.append(plain(self.pick(w.SEA)))
        if land.get("trees"):
            parts.append(plain(self.pick(w.TREES)))
        if land.get("house"):
            parts.append(plain(self.pick(w.HOUSE)))
        return parts

    def landscape(self):
        parts = self.land_parts()
        self.rng.shuffle(parts)
        seams = self.pick([[","], [","], ["and"], ["with"], [",", "and", "with"], ["and", ",", "over"], [";"], ["/"], [".", ","], ["+"], [""]]) if self.commas else self.pick([["and"], ["with"], ["and", "with"], [""]])
        out = []
        if self.objects:
            thing = self.thing(0)
            if parts and self.chance(0.75):
                where = self.pick(["above", "over", "in the sky over", "in front of", "under", "with", "high above", "floating over", "and", "before", "in", "up above"])
                if self.chance(0.6):
                    out = thing + plain(where) + parts[0]
                else:
                    out = parts[0] + plain(self.pick(["with", "and above it", "and", "with", "under"] + ([","] if self.commas else []))) + thing
                parts = parts[1:]
            else:
                parts.insert(self.rng.randint(0, len(parts)), thing)
        elif self.chance(0.25):
            out = plain(self.pick(w.VIEWS))
            if parts:
                out += parts.pop(0)
        for part in parts:
            out += (plain(self.pick(seams)) if out else []) + part
        return out

    # the whole

    def pieces(self):
        """What is said, as pieces in the order in which they are said."""
        if self.scene.get("land"):
            pieces = [self.landscape()]
        elif not self.objects:
            pieces = []
        elif len(self.objects) == 1:
            pieces = [self.thing(0)]
        elif self.scene.get("relation"):
            pieces = [self.related()]
        else:
            pieces = [self.listed()]
        clauses = self.join_facts() + self.tags
        if self.scene.get("background") and not self.scene.get("land"):
            ground = self.background()
            if self.chance(0.35):
                pieces = [ground] + pieces + clauses
            else:
                rest = clauses + [ground]
                self.rng.shuffle(rest)
                pieces += rest
        else:
            pieces += clauses
        return [piece for piece in pieces if piece]

    def join_facts(self):
        """Clauses of the deferred facts, now and then two in one."""
        clauses, facts = [], self.later[:]
        self.rng.shuffle(facts)
        while facts:
            index, fact = facts.pop()
            clause = self.clause_of_fact(index, fact)
            if facts and facts[-1][0] == index and self.chance(0.4) and clause[-1][0] not in ("please", "one"):
                item, other = self.objects[index], facts[-1][1]
                if other in ("colour", "size") and fact in ("colour", "size"):
                    facts.pop()
                    clause += plain("and " + (self.colour(item["colour"]) if other == "colour" else self.size(item["size"])))
            clauses.append(clause)
        return clauses

    def unknown(self):
        """A thing the world does not have."""
        noun = self.unknown_noun()
        if self.chance(0.2):
            noun = f"{self.pick(w.ADJECTIVES)} {noun}"
        return plain(self.pick([f"with {an(noun)} {noun}", f"and {an(noun)} {noun}", f"next to {an(noun)} {noun}", f"like {an(noun)} {noun}", f"{noun}", f"for my {noun}", f"near the {noun}", f"{an(noun)} {noun} too", f"by {self.pick(w.NAMES)}",
                                f"in the style of {self.pick(w.NAMES)}", f"for {self.pick(w.NAMES)}", f"on {an(noun)} {noun}", f"in {an(noun)} {noun}", f"as {an(noun)} {noun}", f"{self.pick(w.ADJECTIVES)} style", f"made of {noun}", f"not {an(noun)} {noun}",
                                f"instead of {an(noun)} {noun}", f"{self.junk_word()} {self.junk_word()}", f"my {noun} likes it", f"it is for {an(noun)} {noun}"]))

    def seam(self, pieces):
        """Joins pieces: all with one separator, or each with its own."""
        if self.commas:
            seams = self.pick([[","], [","], [""], [",", ""], [".", ","], [";"], ["-"], [".", "and", ",", ""], ["|"], ["/"], [","], ["\n"], [":"], ["."], ["..."], ["+"]])
        else:
            seams = self.pick([[""], [""], ["and", ""], ["."], ["with", "and"]])
        out = []
        for piece in pieces:
            if out:
                seam = self.pick(seams)
                if seam in ("and", "with") and piece[0][0] in ("and", "with", "on", "against", "in", "it", "the", "make"):
                    seam = ""
                out += plain(seam) if seam != "\n" else [("\n", NOWHERE)]
            out += piece
        return out

    def wrap(self, body):
        """Openings, questions, closings; a picture within a picture."""
        media = w.CLIP_MEDIA if self.clip and self.chance(0.7) else w.MEDIA
        end = ""
        if self.chance(0.16):
            body = plain(self.pick(media)) + body
            if self.chance(0.12):
                body = plain(self.pick(["a nice", "a simple", "a"])) + plain(self.pick(["print of", "version of", "copy of", "picture of"])) + body
        roll = self.rng.random()
        if roll < 0.2:
            body = plain(self.pick(w.ASKS)) + body
        elif roll < 0.32:
            body = plain(self.pick(w.QUESTIONS)) + body
            end = self.pick(["?", "?", "?", "", " ?"])
        elif roll < 0.37:
            before, behind = self.pick(w.ROUND)
            body, end = plain(before) + body + plain(behind), self.pick(["?", "?", "", "."])
        if self.chance(0.06):
            body = (comma(plain(self.pick(w.GREETINGS))) if self.commas else plain(self.pick(w.GREETINGS))) + body
        if self.chance(0.1):
            body = (comma(body) if self.commas and self.chance(0.7) else body) + plain(self.pick(w.CLOSINGS))
        if end == "" and self.chance(0.14):
            end = self.pick([".", ".", ".", "!", " .", "..", "!!"])
        return body + (plain(end) if end else [])

    def compose(self):
        pieces = self.pieces()
        if self.chance(0.12 + self.filler / 3):
            at = self.rng.randint(0, len(pieces))
            pieces.insert(at, self.unknown())
        if self.chance(0.12):
            quality = self.rng.sample(w.QUALITY + (w.CLIP_QUALITY if self.clip else []), self.rng.randint(1, 3))
            piece = plain(", ".join(quality) if self.commas else " ".join(quality))
            pieces.insert(0 if self.chance(0.25) else len(pieces), piece)
        parts = self.wrap(self.seam(pieces))
        if self.filler:
            parts = [part for item in parts for part in ([(self.pick(w.HEDGES), NOWHERE), item] if self.chance(self.filler / 4) else [item])]
        return write(self.rng, parts)


GLUED = set(",.;:?!|") | {"...", "..", "!!"}


def write(rng, parts):
    """Words to text: separators, typing errors, capitals; keeps where the objects' phrases are."""
    typo = rng.random() < 0.14
    slips = {rng.randrange(len(parts)) for _ in range(rng.randint(1, 2))} if typo and parts else set()
    style = rng.choices(["lower", "sentence", "title", "upper", "odd"], [0.6, 0.26, 0.05, 0.05, 0.04])[0]
    spaced = rng.random() < 0.06
    text, places, first = "", {}, True
    for nth, (word, owner) in enumerate(parts):
        if word == "\n":
            text += "\n"
            continue
        if nth in slips:
            word = mistype(rng, word)
        if style == "upper":
            word = word.upper()
        elif style == "title" or (style == "sentence" and first) or (style == "odd" and rng.random() < 0.3):
            word = word[:1].upper() + word[1:]
        first = word[-1:] in ".?!"
        glued = word in GLUED and not spaced
        # two marks after another: the later one stays
        if word in GLUED and text.rstrip()[-1:] in set(",;:|"):
            text = text.rstrip()[:-1]
        if text and not glued and not text.endswith("\n"):
            text += " "
        start = len(text)
        text += word
        if owner is not None:
            places.setdefault(owner[0], []).append((start, start + len(word.rstrip(",")), owner[1]))
    caption = Caption(text)
    for index, found in places.items():
        caption.spans[index] = (found[0][0], found[-1][1])
        named = [f for f in found if f[2]]
        if named:
            caption.nouns[index] = (named[0][0], named[-1][1])
    return caption


NEAR = {"a": "sqz", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb",
        "w": "qe", "x": "zc", "y": "tu", "z": "x"}


def mistype(rng, word):
    """One letter left out, doubled, exchanged with the next or with its neighbour on the keyboard; short words stay."""
    letters = [i for i, c in enumerate(word) if c.isalpha()]
    if len(letters) < 4:
        return word
    i = letters[rng.randrange(1, len(letters) - 1)] if rng.random() < 0.85 else letters[rng.randrange(len(letters))]
    kind = rng.randrange(5)
    if kind == 0:
        return word[:i] + word[i + 1 :]
    if kind == 1:
        return word[:i] + word[i] + word[i:]
    if kind == 2 and i + 1 < len(word):
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    if kind == 3:
        return word[:i] + rng.choice(NEAR.get(word[i].lower(), "e")) + word[i + 1 :]
    return word[:i] + rng.choice("aeionrtsl") + word[i:]


def compose(rng: random.Random, scene: dict, clip=False) -> Caption:
    """One text for the scene. `clip`: of a video, where "to the left" is a way and not a place."""
    return Composer(rng, scene, clip).compose()


def unsaid(rng, count=None) -> Caption:
    """A caption of nothing the world knows: only words about quality, or foreign things."""
    if rng.random() < 0.5:
        return Caption(", ".join(rng.sample(w.QUALITY + w.BAD + w.CLIP_QUALITY, count or rng.randint(1, 7))))
    composer = Composer(rng, {"objects": []})
    noun = lambda: composer.unknown_noun()
    text = rng.choice([lambda: f"{an(a := noun())} {a} on {an(b := noun())} {b}", lambda: f"{an(a := noun())} {a}", lambda: f"{noun()}, {noun()}", lambda: f"{noun()} with {noun()}", lambda: f"the {noun()} of {rng.choice(w.NAMES)}",
                       lambda: f"{rng.choice(w.ADJECTIVES)} {noun()}", lambda: " ".join(composer.junk_word() for _ in range(rng.randint(1, 5)))])()
    return write(rng, composer.wrap(plain(text)))


def bag(rng, words_of) -> Caption:
    """Attributes alone, as negative prompts have them: "red", "blue, star"."""
    return Caption(rng.choice([", ", " ", ", "]).join(rng.sample(words_of, rng.randint(1, min(3, len(words_of))))))
