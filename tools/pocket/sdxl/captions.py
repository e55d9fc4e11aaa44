"""What is said about a scene of the picture world, and what its text states in numbers."""

import random
import sys
from pathlib import Path

import world
from conditioning import WINDOW

sys.path.append(str(Path(__file__).parents[1]))
from language import bag, compose, unsaid  # noqa: E402
from language import words as spoken  # noqa: E402


def said_of(rng, scene, silent=frozenset()) -> dict:
    """The scene for language.compose: now and then something is left out; `silent` names what must be: size, colour, shape, subject, place, relation, background, sky, ground, light."""
    quiet = lambda name, p: name in silent or rng.random() < p
    kind, objects = scene["kind"], []
    for item in scene["objects"]:
        own = {*silent, *item.get("silent", ())}
        said = {"shape": item["shape"], "colour": item["colour"]}
        if "colour" in own or rng.random() < 0.05:
            said["colour"] = None
        if "shape" in own or rng.random() < 0.05:
            said["shape"] = None
            if "shape" not in own and rng.random() < 0.6:
                said["unknown"] = rng.choice(spoken.NOUNS)
        if item.get("size") and "size" not in own and rng.random() < 0.65:
            said["size"] = item["size"]
        if item.get("outline"):
            said["outline"] = True
        elif item["shape"] in world.OUTLINED and rng.random() < 0.03:
            said["outline"] = False
        if kind == "one" and "place" not in own and rng.random() < 0.75:
            said["place"] = item["place"]
        objects.append(said)
    if kind == "several":
        objects = [{**objects[0], "count": len(objects)}]
    elif kind == "group" and scene["objects"][0]["shape"] == scene["objects"][1]["shape"] and scene["objects"][0]["colour"] == scene["objects"][1]["colour"]:
        objects = [{**objects[0], "count": 2}, objects[2]]
    out = {"objects": objects}
    if kind == "two" and not quiet("relation", 0.2):
        out["relation"] = scene["relation"]
    # a background that is not named is white
    if scene["background"] and not quiet("background", 0.6 if scene["background"] == "white" else 0):
        out["background"] = scene["background"]
    if scene["land"]:
        land, told = scene["land"], {}
        if not quiet("sky", 0.08):
            told["sky"] = land["sky"]
        if land["light"] and not quiet("light", 0.2):
            told["light"] = land["light"]
            if rng.random() < 0.75:
                told["light_at"] = land["light_at"]
        if land["clouds"] and not quiet("light", 0.2):
            told["clouds"] = True
        if not quiet("ground", 0.08):
            told.update(ground=land["ground"], trees=bool(land["trees"]) and rng.random() < 0.8, house=land["house"] and rng.random() < 0.85)
        out["land"] = told
    return out


def caption(rng, scene, silent=frozenset(), always=False):
    """(Caption, what it says): a text for the scene; seldom one that says nothing of it, or attributes alone. `always`: never those."""
    roll = 1 if silent or always else rng.random()
    if roll < 0.035:
        return unsaid(rng), None
    if roll < 0.07 and scene["objects"]:
        item = scene["objects"][0]
        return bag(rng, [rng.choice(spoken.COLOURS[item["colour"]]), rng.choice(spoken.SHAPES[item["shape"]])[0]] + ([rng.choice(spoken.SIZES[item["size"]])] if item.get("size") else [])), None
    said = said_of(rng, scene, silent)
    return compose(rng, said), said


SLOTS = {"colour": list(world.COLOURS), "shape": world.SHAPES, "size": ["small", "large"], "outline": [False, True], "place": list(world.PLACES), "count": [1, 2, 3, 4, 5]}
HEADS = ([(f"{name}{k}", len(values) + 1) for k in (0, 1) for name, values in SLOTS.items()] + [("relation", 3), ("background", len(world.COLOURS) + 1), ("sky", 4), ("ground", 4), ("light", 3), ("light_at", 4), ("clouds", 2), ("trees", 2), ("house", 2)])


def labels_of(said) -> list:
    """One number a head: 0 is "not said", -100 "not asked". Of two things the first is the upper or the left one, or the one that comes first by name."""
    if said is None:
        return [-100] * len(HEADS)
    objects, relation = list(said["objects"]), said.get("relation")
    if relation in ("below", "right of"):
        objects.reverse()
    elif len(objects) == 2 and not relation:
        objects.sort(key=lambda item: (item.get("shape") or "", item.get("colour") or ""))
    row = []
    for k in (0, 1):
        for name, values in SLOTS.items():
            if len(objects) > 2:
                row.append(-100)
            elif k >= len(objects):
                row.append(0)
            else:
                value = objects[k].get(name)
                value = 1 if name == "count" and value is None else value
                row.append(0 if value is None else values.index(value) + 1)
    land = said.get("land") or {}
    index = lambda value, values: 0 if not value else values.index(value) + 1
    row += [0 if not relation else 1 if relation in ("above", "below") else 2, index(said.get("background"), list(world.COLOURS)), index(land.get("sky"), list(world.SKIES)), index(land.get("ground"), ["hills", "sea", "both"]),
            index(land.get("light"), ["sun", "moon"]), index(land.get("light_at"), ["left", "right", "centre"]), int(bool(land.get("clouds"))), int(bool(land.get("trees"))), int(bool(land.get("house")))]
    return row


def frame(tokenizer, text, span=(0, 0)):
    """(ids padded with the end token, length with both ends, token positions of the characters in `span`)."""
    first, last = (tokenizer.token_to_id(token) for token in ("<|startoftext|>", "<|endoftext|>"))
    encoded = tokenizer.encode(text)
    row = [first, *encoded.ids[: WINDOW - 2], last]
    inside = [i + 1 for i, (a, b) in enumerate(encoded.offsets[: WINDOW - 2]) if a < span[1] and b > span[0]] if span[1] > span[0] else []
    return row + [last] * (WINDOW - len(row)), len(row), (inside[0], inside[-1] + 1) if inside else (0, 0)


def make_texts(seed, count):
    """Texts to train a tokenizer on."""
    rng = random.Random(seed)
    return [caption(rng, world.make_scene(rng, False))[0].text for _ in range(count)]
