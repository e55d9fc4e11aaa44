"""What is said about a scene of the pocket video world, and what its text states in numbers."""

import random
import sys
from pathlib import Path

import world

sys.path.append(str(Path(__file__).parents[1]))
from language import bag, compose, unsaid  # noqa: E402
from language import words as spoken  # noqa: E402


def said_of(rng: random.Random, scene: dict, picture=False) -> dict:
    """The scene for language.compose: now and then something is left out. `picture`: of a single frame, where motion is named seldom."""
    out = {"objects": []}
    if scene["shape"]:
        thing = {"shape": None if rng.random() < 0.04 else scene["shape"], "colour": None if rng.random() < 0.04 else scene["colour"]}
        if thing["shape"] is None and rng.random() < 0.6:
            thing["unknown"] = rng.choice(spoken.NOUNS)
        if rng.random() < 0.3:
            thing["size"] = scene["size"]
        if scene["motion"] in ("still", "blink") and rng.random() < (0.8 if scene["place"] != "centre" else 0.3):
            thing["place"] = scene["place"]
        if rng.random() < (0.15 if picture else 0.95):
            thing["motion"] = scene["motion"]
            if scene["motion"] != "still" and rng.random() < 0.65:
                thing["speed"] = scene["speed"]
        out["objects"] = [thing]
    if scene["kind"] == "shape":
        if rng.random() < (0.45 if scene["background"] == "white" else 1):
            out["background"] = scene["background"]
        return out
    light = "moon" if scene["sky"] == "night" else "sun"
    land = {"sky": scene["sky"] if rng.random() < 0.95 else None, "ground": scene["ground"] if rng.random() < 0.9 else None, "clouds": scene["clouds"] and rng.random() < 0.85}
    if scene["light"] and rng.random() < 0.85:
        land["light"] = light
        if rng.random() < 0.7:
            land["light_at"] = scene["light"]
    out["land"] = land
    return out


def caption(rng: random.Random, scene: dict, picture=False):
    """(text, what it says); seldom one that says nothing of the scene, or attributes alone."""
    roll = rng.random()
    if roll < 0.05:
        return unsaid(rng).text, None
    if roll < 0.085 and scene["shape"]:
        own = [rng.choice(spoken.COLOURS[scene["colour"]]), rng.choice(spoken.SHAPES[scene["shape"]])[0]] + ([] if picture else [rng.choice(spoken.MOTIONS[scene["motion"]])[rng.choice([1, 2])]])
        return bag(rng, own).text, None
    said = said_of(rng, scene, picture)
    return compose(rng, said, clip=True).text, said


LABELS = {"colour": list(world.COLOURS), "shape": world.SHAPES, "motion": world.MOTIONS, "speed": world.SPEEDS, "size": ["small", "large"], "place": list(world.PLACES), "background": list(world.COLOURS),
          "sky": [*world.SKIES, "day to night"], "ground": ["hills", "sea"], "light_at": ["left", "right", "centre"]}


def labels_of(said) -> list:
    """One number a question: 0 is "not said", -100 "not asked"."""
    if said is None:
        return [-100] * len(LABELS)
    flat = {**(said["objects"][0] if said["objects"] else {}), **(said.get("land") or {}), "background": said.get("background")}
    return [0 if flat.get(key) is None else values.index(flat[key]) + 1 for key, values in LABELS.items()]


def make_texts(seed, count) -> list:
    """Texts to train a tokenizer on."""
    rng = random.Random(seed)
    return [caption(rng, world.make_scene(rng, held_out=rng.random() < 0.1), rng.random() < 0.2)[0] for _ in range(count)]
