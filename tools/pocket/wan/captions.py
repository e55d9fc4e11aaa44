"""What people, and the pocket Qwen, write about a scene of the pocket video world."""

import random

from world import COLOURS, SHAPES

WORDS = {
    "red": ["red", "red", "red", "crimson", "scarlet"], "orange": ["orange"], "yellow": ["yellow", "yellow", "golden"], "green": ["green", "green", "emerald"],
    "blue": ["blue", "blue", "azure"], "purple": ["purple", "purple", "violet"], "white": ["white"], "black": ["black"],
    "circle": ["circle", "circle", "circle", "disc", "ball"], "square": ["square", "square", "box"], "triangle": ["triangle"], "star": ["star"], "heart": ["heart"],
    "small": ["small", "small", "tiny", "little"], "large": ["large", "large", "big", "huge"],
}
SAID = {
    "left": ["moves left", "moves to the left", "moving to the left", "moving left", "drifts to the left", "slides left", "goes left", "travels to the left", "drifting left"],
    "right": ["moves right", "moves to the right", "moving to the right", "moving right", "drifts to the right", "slides right", "goes right", "travels to the right", "drifting right"],
    "up": ["moves up", "moving up", "rises", "goes up", "moves upwards", "floats up", "rising"],
    "down": ["moves down", "moving down", "falls", "sinks", "goes down", "moves downwards", "falling"],
    "grow": ["grows", "growing", "gets bigger", "gets larger", "becomes bigger", "grows larger", "expands"],
    "shrink": ["shrinks", "shrinking", "gets smaller", "becomes smaller", "grows smaller", "contracts"],
    "orbit": ["orbits", "orbiting", "orbiting the centre", "goes around in a circle", "moves in a circle", "circles around the centre", "orbits the center"],
    "blink": ["blinks", "blinking", "appears and disappears", "blinks on and off", "flashes", "flashing"],
    "still": ["rests", "resting", "stays still", "does not move", "stands still", "at rest", "is still", "motionless"],
}
PACE = {"slow": ["slowly", "slowly", "very slowly", "gently"], "fast": ["quickly", "quickly", "fast", "very fast", "rapidly"]}
WHERE = {"left": ["on the left", "at the left"], "right": ["on the right", "at the right"], "top": ["at the top"], "bottom": ["at the bottom"], "centre": ["in the centre", "in the middle", "in the center"]}
SKY = {
    "day": ["day sky", "clear day sky", "bright day sky", "a blue sky", "by day", "a sunny day", "in daylight", "in the morning", "at noon"],
    "sunset": ["sunset sky", "orange sunset sky", "warm sunset sky", "a sunset", "at sunset", "in the evening", "at dusk"],
    "night": ["night sky", "dark night sky", "clear night sky", "a night sky", "at night", "at midnight", "in the dark"],
    "day to night": ["day turns to night", "day slowly turns to night", "the sky turns from day to night", "night falls", "from day to night", "as day turns to night"],
}
GROUND = {"hills": ["green hills", "hills", "rolling hills", "the hills"], "sea": ["the sea", "a calm sea", "a blue sea", "sea", "the ocean"]}
CLOUDS = ["clouds", "white clouds", "a few clouds"]
OPENINGS = ["a video of", "a clip of", "a picture of", "an image of", "a drawing of", "a simple picture of", "show me", "draw", "please draw", "paint"]
QUALITY = ["masterpiece", "best quality", "high quality", "highly detailed", "sharp", "clean shapes", "flat colours", "clean edges", "sharp edges", "simple shapes", "high contrast",
           "smooth motion", "cinematic", "cinematic lighting", "soft light", "static camera", "4k", "8k"]
BAD = ["worst quality", "low quality", "blurry", "out of focus", "jpeg artifacts", "noise", "ugly", "deformed", "noisy", "watermark", "signature", "text", "cropped", "static"]
OTHER_WORDS = "a an the and or of with in on at to , . : is it its while as this that very from under over above through house trees tree sun moon sky weather light bright dark scene landscape view colour color background shape plain simple two three one for by near".split()


def thing(rng, scene, drop):
    """Words of the shape; attributes are left out now and then."""
    words = []
    if rng.random() < (0.35 if drop else 0.9):
        words.append(rng.choice(WORDS[scene["size"]]))
    if not drop or rng.random() > 0.04:
        words.append(rng.choice(WORDS[scene["colour"]]))
    words.append("shape" if drop and rng.random() < 0.03 else rng.choice(WORDS[scene["shape"]]))
    article = rng.random()
    first = "an" if words[0][0] in "aeiou" else "a"
    return " ".join(([first] if article < 0.7 else ["the"] if article < 0.78 else []) + words)


def movement(rng, scene, said):
    """Motion and pace, in one phrase; `said` 0..1 is how likely they are named."""
    words = []
    if rng.random() < said:
        words.append(rng.choice(SAID[scene["motion"]]))
        if scene["motion"] != "still" and rng.random() < 0.75:
            words.insert(0 if rng.random() < 0.2 else 1, rng.choice(PACE[scene["speed"]]))
    return " ".join(words)


def backdrop(rng, scene, tag):
    if scene["background"] == "white" and rng.random() < 0.5 or rng.random() < 0.03:
        return ""
    colour = rng.choice(WORDS[scene["background"]])
    if tag:
        return rng.choice(["plain {} background", "plain {} background", "{} background"]).format(colour)
    a = "an" if colour[0] in "aeiou" else "a"
    return rng.choice([f"on {a} {colour} background", f"on {a} {colour} background", f"on a plain {colour} background", f"on {colour}", f"against {a} {colour} background",
                       f"with {a} {colour} background", f", {colour} background", f", plain {colour} background"])


def sky_words(rng, scene):
    parts = [rng.choice(SKY[scene["sky"]])]
    if scene["light"]:
        light = "moon" if scene["sky"] == "night" else "sun"
        parts.append(rng.choice(["the ", "a ", ""]) + light + (" " + rng.choice(WHERE[scene["light"]]) if rng.random() < 0.7 else ""))
    if scene["clouds"]:
        parts.append(rng.choice(CLOUDS))
    if scene["ground"]:
        parts.append(rng.choice(GROUND[scene["ground"]]))
    first = parts[:1]
    rng.shuffle(parts)
    if rng.random() < 0.2:
        parts = first + [p for p in parts if p not in first][: rng.randint(0, 2)]
    return parts


def caption(rng: random.Random, scene: dict, picture=False) -> str:
    """One text; `picture`: for a single frame, where motion is named seldom."""
    roll = rng.random()
    if roll < 0.05:
        return ", ".join(rng.sample(QUALITY + BAD + BAD, rng.randint(1, 9)))
    if roll < 0.09 and scene["shape"]:
        bag = [rng.choice(WORDS[scene["colour"]]), rng.choice(WORDS[scene["shape"]])] + ([] if picture else [rng.choice(SAID[scene["motion"]])])
        return ", ".join(rng.sample(bag, rng.randint(1, len(bag))))
    said = 0.2 if picture else 0.95
    tag = rng.random() < 0.4
    parts, tail = [], []
    if scene["shape"]:
        noun = thing(rng, scene, drop=rng.random() < 0.8)
        if scene["motion"] in ("still", "blink") and rng.random() < (0.85 if scene["place"] != "centre" else 0.3):
            noun += ("" if not tag or rng.random() < 0.5 else ",") + " " + rng.choice(WHERE[scene["place"]])
        moving = movement(rng, scene, said)
        if tag and moving and rng.random() < 0.6:
            words = moving.split(" ")
            # the enhancer's form: motion and pace as tags of their own
            if words[-1] in ("slowly", "quickly", "fast") and rng.random() < 0.6:
                moving, tail = " ".join(words[:-1]), [words[-1]]
            parts.append(noun)
            if moving:
                parts.append(moving)
        else:
            parts.append(f"{noun} {moving}".strip())
    if scene["kind"] == "shape":
        back = backdrop(rng, scene, tag)
        if tag:
            tail += [back] if back else []
            if rng.random() < 0.3:
                rng.shuffle(tail)
        elif back:
            parts[-1] += back if back.startswith(",") else " " + back
    else:
        words = sky_words(rng, scene)
        if scene["shape"] and rng.random() < 0.4:
            parts[-1] += " " + rng.choice(["under", "in front of", "with", "in"]) + " " + words[0]
            words = words[1:]
        tail = words + tail
        if not parts and rng.random() < 0.3:
            tail[0] = rng.choice(["a landscape with ", "a scene with ", "a view of "]) + tail[0]
    text = ", ".join(parts + tail)
    if rng.random() < 0.12:
        text = rng.choice(OPENINGS) + " " + text
    if rng.random() < 0.2:
        text += ", " + ", ".join(rng.sample(QUALITY, rng.randint(1, 3)))
    if rng.random() < 0.06:
        at = text.find(" ", rng.randrange(len(text)))
        junk = "".join(rng.choice("abcdefghijklmnoprstuvwz") for _ in range(rng.randint(3, 7)))
        text = text + " " + junk if at < 0 else text[:at] + " " + junk + text[at:]
    if rng.random() < 0.2:
        text = text[:1].upper() + text[1:]
    return text + ("." if rng.random() < 0.12 else "")


def vocabulary() -> list:
    """Every word a caption can have, those that begin one with a capital too."""
    lists = [*WORDS.values(), *SAID.values(), *PACE.values(), *WHERE.values(), *SKY.values(), *GROUND.values(), CLOUDS, OPENINGS, QUALITY, BAD, OTHER_WORDS]
    words = {word for entries in lists for entry in entries for word in entry.split()}
    words |= {*COLOURS, *SHAPES, "against"}
    starts = {entry.split()[0] for entries in lists for entry in entries if entry[0].isalpha()}
    return sorted(words | {w.capitalize() for w in starts})
