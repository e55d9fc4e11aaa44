"""Pairs of a reference and a target that share one thing only, with a caption that leaves just this open.

composition: where things are and how large; style: background and palette (a landscape's sky); character: the subject's shape and colour.
What the caption does say is true of the target. At a strength below 1 the target keeps less of the reference: lengths and the background
move linearly, what cannot move (a colour, a shape) is kept with the square of the strength: guidance sharpens it again.
"""

import random

from world import COLOURS, make_scene, pick_background, pick_pair

MODES = ("composition", "style", "character")


def lerp(a, b, share):
    return a + (b - a) * share


def copy_scene(scene):
    return {**scene, "objects": [dict(item) for item in scene["objects"]], "land": dict(scene["land"]) if scene["land"] else None}


def composition_pair(rng, strength, seen_only):
    reference = make_scene(rng, seen_only, rng.choices(["one", "two", "several", "landscape"], [0.32, 0.36, 0.16, 0.16])[0], 0)
    target = copy_scene(reference)
    pairs = [pick_pair(rng, seen_only) for _ in target["objects"]]
    if target["kind"] == "several":
        pairs = [pairs[0]] * len(pairs)
    for item, (colour, shape) in zip(target["objects"], pairs):
        item.update(colour=colour, shape=shape)
    if target["land"]:
        land = target["land"]
        land["sky"] = rng.choice(["day", "sunset", "night"])
        land["light"] = land["light"] and ("moon" if land["sky"] == "night" else "sun")
        other = make_scene(rng, seen_only, "landscape", 0)["land"]
        for key in ("light_x", "light_y", "horizon", "phase", "house_x", "cloud_x"):
            land[key] = lerp(other[key], land[key], strength)
    else:
        target["background"] = pick_background(rng, [colour for colour, _ in pairs])
    if strength < 1:
        # a layout of the same number of things, on the way to the reference's
        other = make_scene(rng, seen_only, target["kind"], 0)
        while len(other["objects"]) != len(target["objects"]):
            other = make_scene(rng, seen_only, target["kind"], 0)
        for item, free in zip(target["objects"], other["objects"]):
            item["at"] = tuple(lerp(f, r, strength) for f, r in zip(free["at"], item["at"]))
            item["radius"] = lerp(free["radius"], item["radius"], strength)
    if target["kind"] == "two" and rng.random() < 0.5:
        target["objects"].reverse()
        target["relation"] = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}[target["relation"]]
    silent = {"size", "place", "relation", "light"} | ({"ground"} if rng.random() < 0.7 else set())
    return reference, target, silent


def style_pair(rng, strength, seen_only):
    kind = rng.choices(["one", "two", "several", "landscape"], [0.34, 0.34, 0.12, 0.2])[0]
    reference = make_scene(rng, seen_only, kind, 0)
    target = make_scene(rng, seen_only, kind if kind == "landscape" else rng.choices(["one", "two", "several"], [0.4, 0.45, 0.15])[0], 0)
    if target["land"]:
        if rng.random() < strength**2:
            target["land"]["sky"] = reference["land"]["sky"]
        target["land"]["light"] = target["land"]["light"] and ("moon" if target["land"]["sky"] == "night" else "sun")
        target["objects"] = []
        target["weights"] = []
        return reference, target, {"sky"}
    palette = [item["colour"] for item in reference["objects"]]
    rng.shuffle(palette)
    free = pick_pair(rng, seen_only)[0]
    for i, item in enumerate(target["objects"]):
        if rng.random() < strength**2:
            item["colour"] = palette[0] if target["kind"] == "several" else palette[i % len(palette)]
        elif target["kind"] == "several":
            item["colour"] = free
    target["background"] = reference["background"]
    if strength < 1:
        target["background_rgb"] = tuple(lerp(w, r, strength) for w, r in zip(COLOURS["white"], COLOURS[reference["background"]]))
    return reference, target, {"colour", "background"}


def character_pair(rng, strength, seen_only):
    while True:
        reference = make_scene(rng, seen_only, "landscape" if rng.random() < 0.15 else "one", 0)
        if reference["objects"]:
            break
    subject = reference["objects"][0]
    while True:
        target = make_scene(rng, seen_only, rng.choices(["one", "two", "landscape"], [0.68, 0.2, 0.12])[0], 0)
        if target["objects"]:
            break
    item = rng.choice(target["objects"])
    for key in ("colour", "shape"):
        if rng.random() < strength**2:
            item[key] = subject[key]
    item["silent"] = ("colour", "shape")
    taken = [thing["colour"] for thing in target["objects"]]
    if target["background"] in taken:
        target["background"] = pick_background(rng, taken)
    return reference, target, {"subject"}


def make_pair(rng: random.Random, mode: str, strength=None, seen_only=True):
    """(reference scene, target scene, what the caption keeps silent about, strength)."""
    if strength is None:
        strength = 1.0 if rng.random() < 0.6 else rng.uniform(0.1, 1)
    make = {"composition": composition_pair, "style": style_pair, "character": character_pair}[mode]
    return (*make(rng, strength, seen_only), strength)
