"""
Scenes of the pocket worlds: what a user writes and the detailed prompt it becomes.

The answer is always the user's own text with missing sizes and colours of shapes put in, followed by details that the
picture and video models can draw. Nothing of the text is ever changed, so one rule (copy, insert, append) serves every
prompt; text with words from outside the world is copied untouched.
"""
import random
import re

from words import *

PLURALS = {**{s: s + "s" for s in SHAPES + OTHER_SHAPES}, "box": "boxes"}
TIME_CUES = [("night", r"\b(night|moon|midnight|dark)\b"), ("sunset", r"\b(sunset|evening|dusk)\b"), ("day", r"\b(day|daylight|sunny|noon|morning|sun)\b")]
ORDER = ["position", "motion", "speed", "sky", "light", "clouds", "hills", "sea", "trees", "house", "change", "background"]


class Thing:
    """A noun phrase about a shape; what was not said is drawn once and put in."""

    def __init__(self, r: random.Random, said_size=0.3, said_colour=0.85):
        count = r.choices([1, 2, 3, r.randint(4, 12)], [76, 10, 10, 4])[0]
        self.count = count
        self.noun = r.choice(SHAPES) if r.random() < 0.93 else r.choice(OTHER_SHAPES)
        self.colour_said = r.random() < said_colour
        self.colour = r.choice(COLOURS) if not self.colour_said or r.random() < 0.9 else r.choice(OTHER_COLOURS)
        self.size_said = r.random() < said_size
        if self.size_said:
            self.size = r.choice(SIZES) if r.random() < 0.75 else r.choice(OTHER_SIZES)
        else:
            self.size = r.choices(SIZES, [35, 65] if count == 1 else [75, 25])[0]
        self.digits = r.random() < 0.15
        self.article = r.choices(["a", "the", "one", ""], [82, 5, 3, 10])[0]

    def text(self, full: bool) -> str:
        words = []
        if full or self.size_said:
            words.append(self.size)
        if full or self.colour_said:
            words.append(self.colour)
        words.append(self.noun if self.count == 1 else PLURALS[self.noun])
        if self.count > 1:
            words.insert(0, str(self.count) if self.digits else NUMBERS[self.count - 1])
        elif self.article == "a":
            words.insert(0, "an" if words[0][0] in "aeiou" else "a")
        elif self.article:
            words.insert(0, self.article)
        return " ".join(words)


class Scene:
    """`parts`: strings, `Thing`s and ("slot", text) pairs in the order of the text; `details`: slot -> phrase, drawn once."""

    def __init__(self, kind, parts, video=False):
        self.kind, self.parts, self.video = kind, parts, video
        self.details, self.extra, self.quality = {}, [], []
        self.target = "video" if video else "image"

    def things(self):
        return [p for p in self.parts if isinstance(p, Thing)]

    def given(self):
        return {p[0] for p in self.parts if isinstance(p, tuple)}

    def body(self, full: bool) -> str:
        out = ""
        for part in self.parts:
            text = part.text(full) if isinstance(part, Thing) else part[1] if isinstance(part, tuple) else part
            out += text if not out or text[:1] in ",." else " " + text
        return out

    def short(self) -> str:
        return self.styled(self.body(False))

    def styled(self, text):
        return text[:1].upper() + text[1:] if getattr(self, "capital", False) else text

    def long(self) -> str:
        text = self.styled(self.body(True))
        details = [self.details[s] for s in ORDER if s in self.details] + self.extra + self.quality
        return append(text, details)


def append(text: str, details: list) -> str:
    """A text that ends like a sentence is followed by another one, everything else goes on after a comma."""
    if not details:
        return text
    tail = ", ".join(details)
    if text[-1:] in ".!?…。！？":
        return f"{text} {tail[:1].upper()}{tail[1:]}"
    return f"{text} {tail}" if text[-1:] in ",;:" else f"{text}, {tail}"


def shapes(r, video):
    parts = []
    if r.random() < 0.12:
        parts.append(r.choice(PREFIXES))
    form = r.choices(["one", "relation", "and", "list"], [50, 32, 12, 6])[0]
    things = [Thing(r) for _ in range({"one": 1, "relation": 2, "and": 2, "list": 3}[form])]
    if form in ("relation", "and"):
        for thing in things:
            thing.article = thing.article if thing.article != "" else "a"
    parts.append(things[0])
    if form == "relation":
        parts += [r.choice(RELATIONS[:6]) if r.random() < 0.75 else r.choice(RELATIONS), things[1]]
    elif form == "and":
        parts += ["and", things[1]]
    elif form == "list":
        parts += [",", things[1], r.choice(["and", ", and"]), things[2]]
    scene = Scene("shapes", parts, video)
    if form == "one" and r.random() < 0.3:
        parts.append(("position", r.choice(POSITIONS) if r.random() < 0.8 else r.choice(OTHER_POSITIONS)))
    if r.random() < (0.6 if video else 0.06) and form == "one":
        parts.append(("motion", r.choice(SAID_MOTIONS)))
        if r.random() < 0.3:
            parts.append(("speed", r.choice(SAID_SPEEDS)))
    taken = {t.colour for t in things}
    free = [c for c in COLOURS if c not in taken and not any(c in t for t in taken)]
    if r.random() < 0.22:
        colour = r.choice(free)
        a = "an" if colour == "orange" else "a"
        parts.append(("background", r.choice([f"on {a} {colour} background", f"on {a} {colour} background", f"on a plain {colour} background", f"against {a} {colour} background",
                                              f"with {a} {colour} background", f", {colour} background", f", plain {colour} background"])))
    elif r.random() < 0.16:
        parts.append(r.choice([("sky", r.choice(TIMES[r.choice(list(TIMES))])), ("sea", "above the sea"), ("hills", "over green hills"), ("house", "in front of a house"), ("clouds", "in front of clouds"), ("trees", "among trees")]))
    add_details(r, scene)
    return scene


def landscape(r, video):
    names = r.sample(list(ELEMENTS), r.choices([1, 2, 3], [30, 50, 20])[0])
    if "sun" in names and "moon" in names:
        names.remove("moon")
    parts = []
    if r.random() < 0.1:
        parts.append(r.choice(PREFIXES))
    elif r.random() < 0.12:
        parts.append(r.choice(["a landscape with", "a scene with", "a view of"]))
    for index, name in enumerate(names):
        if index == 1:
            parts.append(r.choice(["by", "near", "over", "above", "and", "with", "in front of", "behind", "beside", "under", "among"]))
        elif index == 2:
            parts.append(r.choice(["and", "with", ",", "under", "by"]))
        parts.append(("light" if name in ("sun", "moon") else name, r.choice(ELEMENTS[name])))
        if name in ("sun", "moon") and r.random() < 0.4:
            parts.append(("lightplace", r.choice(POSITIONS[:3] + ["in the centre", "at the top left", "at the top right"])))
    scene = Scene("landscape", parts, video)
    when = "night" if "moon" in names else None
    if r.random() < 0.4:
        when = "night" if "moon" in names else r.choice(["day", "sunset"] if "sun" in names else list(TIMES))
        parts.append(("sky", r.choice(TIMES[when])))
    elif video and r.random() < 0.25:
        parts.append(("change", r.choice([", " + t for t in DAY_TO_NIGHT] + ["as day turns to night", "while night falls"])))
    scene.when = when
    if "sun" in names and when is None:
        scene.when = r.choice(["day", "sunset"])
    add_details(r, scene)
    return scene


def likely(r, options):
    """The first of the options more often than the others together."""
    return options[0] if r.random() < 0.4 else r.choice(options)


def light(r, when):
    return f"the {'moon' if when == 'night' else 'sun'} {likely(r, LIGHT_PLACES)}"


def sky(r, scene, when):
    return likely(r, SKIES[scene.target][when])


def add_elements(r, scene, count):
    """Up to `count` of what the scene's model can draw besides what is there: one ground in a video, nothing that stands on water."""
    for _ in range(count):
        there = scene.given() | set(scene.details)
        slots = [s for s in ADDED_ELEMENTS[scene.target] if s not in there]
        if scene.video and there & {"hills", "sea"}:
            slots = [s for s in slots if s == "clouds"]
        elif "sea" in there and "hills" not in there:
            slots = [s for s in slots if s in ("clouds", "hills")]
        elif there & {"trees", "house"} and "hills" not in there:
            slots = [s for s in slots if s != "sea"]
        if slots:
            slot = r.choice(slots)
            scene.details[slot] = likely(r, ADDED_ELEMENTS[scene.target][slot])


def free_text(r, text, video):
    scene = Scene("free", [text], video)
    for when, cue in TIME_CUES:
        if re.search(cue, text, re.I):
            scene.when = when
            break
    add_details(r, scene)
    return scene


def add_sky(r, scene, least=1):
    given, details = scene.given(), scene.details
    when = getattr(scene, "when", None)
    if when is None:
        for part in scene.parts:
            if isinstance(part, tuple) and part[0] == "sky":
                when = next(w for w in TIMES if part[1] in TIMES[w])
    when = when or r.choices(["day", "sunset", "night"], [55, 20, 25])[0]
    scene.when = when
    if "sky" not in given and "change" not in given:
        details["sky"] = sky(r, scene, when)
    if "light" not in given and r.random() < (0.6 if len(details) >= least else 1):
        details["light"] = light(r, when)
    add_elements(r, scene, max(least - len(details), r.choices([0, 1, 2], [25, 50, 25])[0]))


def room_beside_background(scene):
    """Whether a shape's prompt leaves more open than the background."""
    things, given = scene.things(), scene.given()
    if any(not t.size_said or not t.colour_said for t in things):
        return True
    return "motion" not in given and (scene.video or (len(things) == 1 and "position" not in given))


def add_details(r, scene):
    given, details, things = scene.given(), scene.details, scene.things()
    outdoors = given & {"sky", "sea", "hills", "house", "clouds", "trees", "light"}
    if scene.kind == "landscape" or (scene.kind == "free" and (getattr(scene, "when", None) or r.random() < 0.4)) or (scene.kind == "shapes" and "background" not in given and (outdoors or r.random() < 0.12)):
        if scene.video and scene.kind != "shapes" and "change" not in given and not (given & {"sky"}) and r.random() < 0.35:
            details["change"] = r.choice(DAY_TO_NIGHT)
        add_sky(r, scene, least=2)
    elif "background" not in given and scene.kind == "shapes" and not room_beside_background(scene):
        add_sky(r, scene, least=2)
    elif "background" not in given:
        taken = " ".join(t.colour for t in things)
        free = [c for c in COLOURS if c not in taken]
        colour = "white" if "white" in free and r.random() < 0.4 else r.choice(free)
        details["background"] = f"plain {colour} background"
    if scene.kind == "shapes" and len(things) == 1 and "position" not in given and not scene.video and "motion" not in given:
        details["position"] = "in the centre" if r.random() < 0.5 else r.choice(POSITIONS)
    if scene.kind == "free" and "background" in details:
        details["position"] = "large and in the centre" if r.random() < 0.5 else r.choice(["small", "large"]) + " and " + r.choice(POSITIONS)
    if scene.video and scene.kind != "landscape" and "motion" not in given and "change" not in details:
        details["motion"] = r.choice(MOTIONS)
    moving = details.get("motion") or next((p[1] for p in scene.parts if isinstance(p, tuple) and p[0] == "motion"), "resting")
    if scene.video and moving not in STILL and "speed" not in given and r.random() < (0.9 if "motion" in given else 0.5):
        details["speed"] = r.choice(SPEEDS)
    if r.random() < 0.15:
        scene.quality = r.sample(QUALITY, r.choice([1, 1, 2]))


def world_scene(r, video):
    scene = shapes(r, video) if r.random() < 0.66 else landscape(r, video)
    scene.capital = r.random() < 0.14
    if r.random() < 0.1:
        scene.parts.append(".")
    elif r.random() < 0.06:
        scene.parts.append(", " + ", ".join(r.sample(TAGS, r.choice([1, 2]))))
    return scene
