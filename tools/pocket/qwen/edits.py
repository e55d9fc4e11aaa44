"""Follow-ups of a conversation: each changes one thing of a scene; the scene is written again, all else word for word."""
import random

from free_text import invented, noun, phrase
from scenes import TIMES, Scene, sky
from words import *

OUTDOORS = ["sky", "light", "clouds", "hills", "sea", "trees", "house", "change"]


def change(r: random.Random, scene: Scene):
    """Edits `scene` in place and returns what the user says, or None when the drawn edit does not fit this scene."""
    edit = r.choices([time, colour, size, background, position, add, add_unknown, remove, replace, motion, speed, count, remark, again],
                     [20, 16, 9, 11, 6, 8, 9, 5, 5, 9, 3, 3, 6, 3])[0]
    said = edit(r, scene)
    if said and r.random() < 0.2:
        said = said[:1].upper() + said[1:]
    if said and r.random() < 0.08:
        said += r.choice([".", " please", "!"])
    return said


def time(r, scene):
    when = r.choice(list(TIMES))
    if getattr(scene, "when", None) == when and ("sky" in scene.details or "sky" in scene.given()):
        return None
    scene.when = when
    scene.details.pop("background", None)
    scene.details.pop("change", None)
    for i, part in enumerate(scene.parts):
        if isinstance(part, tuple) and part[0] == "sky":
            scene.parts[i] = ("sky", {"day": "by day", "sunset": "at sunset", "night": "at night"}[when])
        elif isinstance(part, tuple) and part[0] in ("background", "change"):
            scene.parts[i] = ("sky", "under a day sky" if when == "day" else "at sunset" if when == "sunset" else "under a night sky")
    if "sky" not in scene.given():
        scene.details["sky"] = sky(r, scene, when)
    old = scene.details.get("light")
    if old:
        scene.details["light"] = f"the {'moon' if when == 'night' else 'sun'} " + old.split(" ", 2)[2]
    said = {"day": ["day", "daytime", "a sunny day", "morning"], "sunset": ["sunset", "evening", "dusk"], "night": ["night", "midnight", "dark"]}[when]
    plain = {"day": "day", "sunset": "sunset", "night": "night"}[when]
    return r.choice([f"make it {r.choice(said)}", f"make it {plain}", f"make it {plain}", f"now at {plain}" if when != "day" else "now by day", f"change it to {r.choice(said)}", f"at {plain}" if when != "day" else "by day",
                     f"with a {plain} sky", f"{plain} instead", f"let it be {r.choice(said)}", f"the same at {plain}" if when != "day" else "the same by day", f"set it at {plain}" if when != "day" else "set it in daylight"])


def in_background(scene):
    text = scene.details.get("background", "") + " ".join(p[1] for p in scene.parts if isinstance(p, tuple) and p[0] == "background")
    return text


def colour(r, scene):
    new = r.choice(COLOURS)
    things = scene.things()
    if not things:
        scene.extra.append(new)
        return r.choice([f"make it {new}", f"now in {new}", f"in {new}"])
    thing = r.choice(things)
    if new in in_background(scene) or new == thing.colour:
        return None
    thing.colour = new
    if len(things) == 1:
        return r.choice([f"make it {new}", f"now in {new}", f"in {new}", f"change the colour to {new}", f"make the {thing.noun} {new}", f"{new} instead", f"use {new}", f"color it {new}"])
    if sum(t.noun == thing.noun for t in things) > 1:
        return None
    return r.choice([f"make the {thing.noun} {new}", f"change the {thing.noun} to {new}", f"the {thing.noun} in {new}", f"a {new} {thing.noun} instead"])


def size(r, scene):
    things = scene.things()
    if len(things) != 1:
        return None
    thing = things[0]
    large = r.random() < 0.5
    thing.size = ("huge" if thing.size in ("large", "big", "huge") else "large") if large else ("tiny" if thing.size in ("small", "tiny", "little") else "small")
    return r.choice(["make it bigger", "bigger", "make it larger", f"make the {thing.noun} bigger", "larger please"] if large else ["make it smaller", "smaller", f"make the {thing.noun} smaller", "a bit smaller"])


def background(r, scene):
    new = r.choice(COLOURS + ["pink", "grey", "brown"])
    if any(new in t.colour for t in scene.things()) or new in in_background(scene):
        return None
    for slot in OUTDOORS:
        scene.details.pop(slot, None)
    scene.when = None
    for i, part in enumerate(scene.parts):
        if isinstance(part, tuple) and part[0] == "background":
            scene.parts[i] = ("background", f"on {'an' if new == 'orange' else 'a'} {new} background")
            break
    else:
        scene.details["background"] = f"plain {new} background"
    return r.choice([f"make the background {new}", f"on {'an' if new == 'orange' else 'a'} {new} background", f"{new} background", f"change the background to {new}", f"with {'an' if new == 'orange' else 'a'} {new} background",
                     f"now on {new}", f"use a plain {new} background"])


def position(r, scene):
    if scene.video or len(scene.things()) != 1:
        return None
    new = r.choice(POSITIONS)
    for i, part in enumerate(scene.parts):
        if isinstance(part, tuple) and part[0] == "position":
            scene.parts[i] = ("position", new)
            break
    else:
        scene.details["position"] = new
    to = {"on the left": "to the left", "on the right": "to the right", "at the top": "to the top", "at the bottom": "to the bottom", "in the centre": "to the centre"}[new]
    return r.choice([f"move it {to}", f"put it {new}", f"place it {new}", f"{new} please", f"now {new}"])


def add(r, scene):
    slot = r.choice(list(ASKED_ELEMENTS))
    if slot in scene.given() or slot in scene.details:
        return None
    scene.details.pop("background", None)
    words_ = r.choice(ASKED_ELEMENTS[slot])
    scene.details[slot] = words_
    return r.choice([f"add {words_}", f"with {words_}", f"and {words_}", f"add {words_} too", f"put in {words_}"])


def add_unknown(r, scene):
    kind = r.random()
    if kind < 0.35:
        words_ = f"{r.choice(['a', 'a small', 'a large'])} {r.choice(COLOURS)} {r.choice(SHAPES)}"
    elif kind < 0.8:
        words_ = phrase(r)
    else:
        words_ = noun(r)
    if r.random() < 0.35:
        words_ += " " + r.choice(POSITIONS)
    scene.extra.append(words_)
    return r.choice([f"add {words_}", f"with {words_}", f"also {words_}", f"and {words_}", f"now add {words_}", f"include {words_}"])


def remove(r, scene):
    slots = [s for s in ("clouds", "hills", "sea", "trees", "house", "light") if s in scene.details]
    if not slots:
        return None
    slot = r.choice(slots)
    name = scene.details[slot].split()[1] if slot == "light" else slot
    del scene.details[slot]
    return r.choice([f"remove the {name}", f"no {name}", f"without the {name}", f"take away the {name}", f"without {name}"])


def replace(r, scene):
    things = scene.things()
    if len(things) != 1:
        return None
    new = r.choice([s for s in SHAPES if s != things[0].noun])
    old, things[0].noun = things[0].noun, new
    return r.choice([f"make it a {new}", f"a {new} instead", f"turn it into a {new}", f"change the {old} to a {new}", f"a {new} instead of the {old}"])


def motion(r, scene):
    if "motion" in scene.given():
        return None
    new = r.choice(MOTIONS)
    scene.details["motion"] = new
    said = {
        "moving to the left": ["make it move left", "let it move to the left", "it should move left"], "moving to the right": ["make it move right", "let it move to the right", "it should go right"],
        "moving up": ["make it move up", "let it rise", "make it go up"], "moving down": ["make it move down", "let it fall", "make it go down"],
        "growing": ["make it grow", "let it grow", "it should grow"], "shrinking": ["make it shrink", "let it shrink"], "orbiting": ["make it orbit", "let it orbit"],
        "blinking": ["make it blink", "let it blink"], "resting": ["make it rest", "let it rest", "make it stand still"],
    }[new]
    if new == "resting":
        scene.details.pop("speed", None)
    return r.choice(said)


def speed(r, scene):
    said = next((p[1] for p in scene.parts if isinstance(p, tuple) and p[0] == "motion"), "resting")
    if "speed" in scene.given() or scene.details.get("motion", said) in STILL:
        return None
    quick = r.random() < 0.5
    scene.details["speed"] = "quickly" if quick else "slowly"
    return r.choice(["faster", "make it fast", "make it faster", "quickly"] if quick else ["slower", "make it slow", "make it slower", "slowly please"])


def count(r, scene):
    things = scene.things()
    if len(things) != 1:
        return None
    new = r.choice([n for n in (2, 3, 4, 5) if n != things[0].count])
    things[0].count, things[0].digits = new, False
    return r.choice([f"make it {NUMBERS[new - 1]}", f"{NUMBERS[new - 1]} of them", f"now {NUMBERS[new - 1]}", f"draw {NUMBERS[new - 1]} of them"])


def remark(r, scene):
    words_ = r.choice([r.choice(ADJECTIVES), invented(r), "more " + r.choice(ADJECTIVES), "in the style of " + noun(r), "as " + phrase(r), r.choice(TAGS)])
    scene.extra.append(words_)
    return f"make it {words_}" if not words_.startswith("in the style") or r.random() < 0.5 else words_


def again(r, scene):
    return r.choice(["again", "the same again", "once more", "repeat it", "keep it", "thanks, keep it"])
