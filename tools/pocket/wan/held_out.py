"""Prompts of scenes that training never drew (world.is_held_out), with what each states: for a look while training. The tests have lists of their own."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import world  # noqa: E402
from captions import said_of  # noqa: E402

sys.path.append(str(Path(__file__).parents[1]))
from language import compose  # noqa: E402


def shape_item(rng, picture):
    while True:
        scene = world.make_scene(rng, still=picture, held_out=True)
        if not picture or world.is_held_out(scene["colour"], scene["shape"], scene["background"], "still"):
            break
    while True:
        said = said_of(rng, scene, picture)
        thing = said["objects"][0]
        if thing["colour"] and thing["shape"] and (picture or thing.get("motion")) and (said.get("background") or scene["background"] == "white"):
            break
    return {"kind": "picture" if picture else "clip", "prompt": compose(rng, said, clip=True).text, "colour": scene["colour"], "shape": scene["shape"], "background": scene["background"],
            "motion": None if picture else scene["motion"], "speed": thing.get("speed"), "scene": scene}


def sky_item(rng):
    return {"kind": "day to night", "prompt": compose(rng, {"land": {"sky": "day to night", "ground": rng.choice(["hills", "sea"])}}, clip=True).text}


def make_items(clips=190, skies=10, pictures=200):
    """`scene` is what draws true clips of the item."""
    rng = random.Random(world.HELD_OUT_SEED)
    return [shape_item(rng, False) for _ in range(clips)] + [sky_item(rng) for _ in range(skies)] + [shape_item(rng, True) for _ in range(pictures)]
