"""Writes prompts the training never drew from, with what each states, for the pixel check (tools/pocket-score.ts).

    python tools/pocket/sdxl/held_out.py test/fixtures/pocket-sdxl.json
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from world import COLOURS, HELD_OUT_SEED, PLACES, PLACE_WORDS, PLURAL, RELATIONS, SHAPES, SKIES, SKY_WORDS, UNSEEN, WORDS  # noqa: E402


def pair(rng, unseen=False):
    while True:
        found = (rng.choice(list(COLOURS)), rng.choice(SHAPES))
        if (found in UNSEEN) == unseen:
            return found


def background(rng, taken):
    colour = None if rng.random() < 0.3 and "white" not in taken else rng.choice([c for c in COLOURS if c not in taken])
    return colour, "" if colour is None else rng.choice([" on a {} background", " on {}", ", {} background"]).format(rng.choice(WORDS[colour]))


def one(rng, unseen=False):
    colour, shape = pair(rng, unseen)
    size = rng.choice([None, "small", "large"])
    place = rng.choice([None, *PLACES])
    bg, tail = background(rng, [colour])
    words = " ".join(filter(None, ["a", size and rng.choice(WORDS[size]), rng.choice(WORDS[colour]), rng.choice(WORDS[shape]), place and rng.choice(PLACE_WORDS[place])]))
    return {"kind": "unseen pair" if unseen else "one", "prompt": words + tail, "objects": [{"colour": colour, "shape": shape, "size": size, "place": place}], "background": bg or "white"}


def two(rng):
    first, second = pair(rng), pair(rng)
    while second[0] == first[0]:
        second = pair(rng)
    relation = rng.choice(list(RELATIONS))
    bg, tail = background(rng, [first[0], second[0]])
    noun = lambda p: f"a {rng.choice(WORDS[p[0]])} {rng.choice(WORDS[p[1]])}"
    return {"kind": "two", "prompt": f"{noun(first)} {rng.choice(RELATIONS[relation])} {noun(second)}{tail}", "relation": relation,
            "objects": [{"colour": p[0], "shape": p[1]} for p in (first, second)], "background": bg or "white"}


def several(rng):
    colour, shape = pair(rng)
    count = rng.choice([2, 3])
    bg, tail = background(rng, [colour])
    return {"kind": "several", "prompt": f"{['two', 'three'][count - 2]} {rng.choice(WORDS[colour])} {PLURAL[shape]}{tail}", "objects": [{"colour": colour, "shape": shape}] * count, "background": bg or "white"}


def landscape(rng):
    sky = rng.choice(list(SKIES))
    light, at = "moon" if sky == "night" else "sun", rng.choice(["left", "right", "centre"])
    ground = rng.choice(["hills", "sea"])
    clouds = sky == "day" and rng.random() < 0.5
    parts = [rng.choice(SKY_WORDS[sky]), f"the {light} {rng.choice(PLACE_WORDS[at])}", "green hills" if ground == "hills" else "the sea"] + (["white clouds"] if clouds else [])
    return {"kind": "landscape", "prompt": ", ".join(parts), "sky": sky, "light": at, "ground": ground, "clouds": clouds, "objects": []}


def main():
    rng = random.Random(HELD_OUT_SEED)
    made = [one(rng) for _ in range(120)] + [two(rng) for _ in range(110)] + [several(rng) for _ in range(70)] + [landscape(rng) for _ in range(60)] + [one(rng, True) for _ in range(60)]
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(json.dumps(item) for item in made) + "\n]\n")


if __name__ == "__main__":
    main()
