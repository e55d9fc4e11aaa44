"""Prompts that training never drew from (world.is_held_out), with what each states.

    python tools/pocket/wan/held_out.py test/fixtures/pocket-wan.json
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import world  # noqa: E402
from captions import GROUND, PACE, SAID, SKY, WHERE, WORDS  # noqa: E402


def article(words):
    return ("an " if words[0] in "aeiou" else "a ") + words


def shape_item(rng, picture):
    while True:
        scene = world.make_scene(rng, still=picture, held_out=True)
        if not picture or world.is_held_out(scene["colour"], scene["shape"], scene["background"], "still"):
            break
    word = lambda key: rng.choice(WORDS[scene[key]])
    prompt = article(f"{word('colour')} {word('shape')}")
    speed = None
    if picture:
        prompt += " " + rng.choice(WHERE[scene["place"]]) if rng.random() < 0.5 else ""
    else:
        prompt += ("," if rng.random() < 0.25 else "") + " " + rng.choice(SAID[scene["motion"]])
        if scene["motion"] != "still" and rng.random() < 0.7:
            speed = scene["speed"]
            prompt += " " + rng.choice(PACE[speed])
    if scene["background"] != "white" or rng.random() < 0.5:
        ground = word("background")
        prompt += rng.choice([f" on {article(ground)} background", f", plain {ground} background", f" against {article(ground)} background"])
    return {"kind": "picture" if picture else "clip", "prompt": prompt, "colour": scene["colour"], "shape": scene["shape"], "background": scene["background"],
            "motion": None if picture else scene["motion"], "speed": speed, "scene": scene}


def sky_item(rng):
    prompt = rng.choice(SKY["day to night"]) + ", " + rng.choice(GROUND[rng.choice(["hills", "sea"])])
    return {"kind": "day to night", "prompt": prompt}


def make_items(clips=190, skies=10, pictures=200):
    """The fixture's items; `scene` is what draws true clips of the item (written as the numbers of one, `drawn`)."""
    rng = random.Random(world.HELD_OUT_SEED)
    return [shape_item(rng, False) for _ in range(clips)] + [sky_item(rng) for _ in range(skies)] + [shape_item(rng, True) for _ in range(pictures)]


DRAWN = ["x", "y", "dx", "dy", "radius", "growth", "orbit_radius", "orbit_start", "orbit_turn", "blink_groups"]


def draw_numbers(index, scene):
    """One true clip of a scene: what its prompt leaves open (place, size, an unnamed speed) as training draws it, colours 0 to 255."""
    row = world.pack(random.Random(world.HELD_OUT_SEED + index), scene)
    numbers = {name: round(row[world.AT[name]], 4) for name in DRAWN}
    for name, first in (("colour", "red"), ("ground", "back_red")):
        numbers[name] = [round((row[world.AT[first] + c] + 1) * 127.5, 2) for c in range(3)]
    return numbers


def main():
    items = []
    for index, item in enumerate(make_items()):
        scene = item.pop("scene", None)
        items.append(item if scene is None or item["kind"] == "picture" else {**item, "drawn": draw_numbers(index, scene)})
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]\n")


if __name__ == "__main__":
    main()
