"""The pocket world: scenes, their captions, and their pictures, drawn on the training device from signed distances."""

import math
import random

import torch

SIZE = 128
COLOURS = {"red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50), "green": (40, 160, 70), "blue": (50, 90, 220), "purple": (140, 60, 180), "white": (245, 245, 245), "black": (25, 25, 25)}
SHAPES = ["circle", "square", "triangle", "star", "heart"]
WORDS = {
    "red": ["red", "red", "red", "crimson", "scarlet"], "orange": ["orange"], "yellow": ["yellow", "yellow", "golden"], "green": ["green", "green", "emerald"],
    "blue": ["blue", "azure"], "purple": ["purple", "violet"], "white": ["white"], "black": ["black"],
    "circle": ["circle", "circle", "circle", "disc", "ball"], "square": ["square", "square", "box"], "triangle": ["triangle"], "star": ["star"], "heart": ["heart"],
    "small": ["small", "small", "tiny", "little"], "large": ["large", "large", "big", "huge"],
}
PLURAL = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars", "heart": "hearts"}
PLACES = {"left": (34, 64), "right": (94, 64), "top": (64, 34), "bottom": (64, 94), "centre": (64, 64)}
PLACE_WORDS = {"left": ["on the left", "at the left"], "right": ["on the right", "at the right"], "top": ["at the top"], "bottom": ["at the bottom"], "centre": ["in the centre", "in the middle", "at the center"]}
RELATIONS = {"above": ["above", "above", "over"], "below": ["below", "below", "under", "beneath"], "left of": ["left of", "to the left of"], "right of": ["right of", "to the right of"]}
UNSEEN = {("purple", "star"), ("orange", "heart"), ("green", "triangle")}
SKIES = {"day": ((110, 180, 245), (200, 230, 250)), "sunset": ((90, 60, 140), (250, 150, 80)), "night": ((10, 15, 45), (35, 45, 90))}
SKY_WORDS = {"day": ["day", "a clear day", "daylight", "a blue sky"], "sunset": ["sunset", "a sunset sky", "dusk"], "night": ["night", "a night sky", "at night"]}
QUALITY = ["masterpiece", "best quality", "high quality", "highly detailed", "sharp", "clean shapes"]
BAD = ["worst quality", "low quality", "blurry", "ugly", "deformed", "noisy", "watermark", "text"]
KINDS = {1: "one", 2: "two", 3: "three"}
HELD_OUT_SEED = 20261124


def pick_pair(rng, seen_only=True):
    while True:
        pair = (rng.choice(list(COLOURS)), rng.choice(SHAPES))
        if not seen_only or pair not in UNSEEN:
            return pair


def pick_background(rng, taken):
    """A background that no caption names is white: an unnamed attribute must have one likely value, or guidance invents colours."""
    return "white" if rng.random() < 0.4 and "white" not in taken else rng.choice([c for c in COLOURS if c not in taken])


def pick_size(rng):
    """None is between small and large: what a caption without a size means."""
    return rng.choice(["small", "large", None])


def make_scene(rng: random.Random, seen_only=True, kind=None, weighted=0.22) -> dict:
    """`weighted`: share of scenes with one or two objects in which one has an area times a weight."""
    kind = kind or rng.choices(["one", "two", "several", "landscape"], [0.36, 0.26, 0.16, 0.22])[0]
    scene = {"kind": kind, "objects": [], "weights": [], "background": None, "land": None}
    if kind == "landscape":
        sky = rng.choice(list(SKIES))
        ground = rng.choice(["hills", "sea", "both"])
        light = "moon" if sky == "night" else "sun"
        scene["land"] = {"sky": sky, "ground": ground, "light": light if rng.random() < 0.7 else None, "light_at": rng.choice(["left", "right", "centre"]),
                         "clouds": rng.choice([0, 0, 2, 3]), "trees": rng.choice([0, 0, 2, 3]) if ground != "sea" else 0, "house": rng.random() < 0.3 and ground != "sea"}
        if rng.random() < 0.3:
            colour, shape = pick_pair(rng, seen_only)
            scene["objects"] = [{"colour": colour, "shape": shape, "size": pick_size(rng), "at": (rng.uniform(45, 83), rng.uniform(38, 50))}]
    else:
        pairs = [pick_pair(rng, seen_only) for _ in range(2 if kind == "two" else 1)]
        taken = [p[0] for p in pairs]
        scene["background"] = pick_background(rng, taken)
        if kind == "one":
            place = rng.choice(list(PLACES))
            x, y = PLACES[place]
            scene["objects"] = [{"colour": pairs[0][0], "shape": pairs[0][1], "size": pick_size(rng), "place": place, "at": (x + rng.uniform(-5, 5), y + rng.uniform(-5, 5))}]
        elif kind == "two":
            scene["relation"] = rng.choice(list(RELATIONS))
            ends = {"above": ((64, 34), (64, 94)), "below": ((64, 94), (64, 34)), "left of": ((34, 64), (94, 64)), "right of": ((94, 64), (34, 64))}[scene["relation"]]
            for (colour, shape), (x, y) in zip(pairs, ends):
                scene["objects"].append({"colour": colour, "shape": shape, "size": pick_size(rng), "at": (x + rng.uniform(-5, 5), y + rng.uniform(-5, 5))})
        else:
            count = rng.choice([2, 3])
            xs = {2: [40, 88], 3: [26, 64, 102]}[count]
            y = 64 + rng.uniform(-12, 12)
            scene["objects"] = [{"colour": pairs[0][0], "shape": pairs[0][1], "size": "small", "at": (x + rng.uniform(-4, 4), y + rng.uniform(-5, 5))} for x in xs]
    scene["weights"] = [1.0] * len(scene["objects"])
    if kind in ("one", "two") and rng.random() < weighted:
        scene["weights"][rng.randrange(len(scene["objects"]))] = math.exp(rng.uniform(math.log(0.3), math.log(1.8)))
    settle(rng, scene)
    return scene


def settle(rng, scene) -> None:
    """Fixes what a picture needs beyond the words: radii, and where a landscape's parts lie."""
    for item in scene["objects"]:
        if scene["kind"] == "several":
            radius = rng.uniform(14, 16.5) - (2 if len(scene["objects"]) == 3 else 0)
        else:
            radius = rng.uniform(*{"small": (12, 14.5), "large": (20, 23), None: (16, 18)}[item["size"]])
        item["radius"] = radius * (0.75 if scene["land"] else 1)
    if scene["land"]:
        light_x = {"left": 28, "right": 100, "centre": 64}[scene["land"]["light_at"]] + rng.uniform(-4, 4)
        scene["land"] |= {"light_x": light_x, "light_y": rng.uniform(20, 27), "cloud_x": rng.uniform(0, 100), "horizon": rng.uniform(74, 84), "phase": rng.uniform(0, 6.28), "house_x": rng.uniform(20, 100)}


def phrase(rng, item, plural=None, silent=()):
    """Words of one object; colour and shape are dropped now and then."""
    silent = {*silent, *item.get("silent", ())}
    parts = []
    if plural is None and item["size"] and "size" not in silent:
        parts.append(rng.choice(WORDS[item["size"]]))
    if "colour" not in silent and rng.random() > 0.06:
        parts.append(rng.choice(WORDS[item["colour"]]))
    noun = PLURAL[item["shape"]] if plural else rng.choice(WORDS[item["shape"]])
    if "shape" in silent or rng.random() < 0.04:
        noun = "shapes" if plural else "shape"
    return parts + [noun]


def caption(rng: random.Random, scene: dict, silent=frozenset()):
    """Words of a caption and the word range of every object's phrase.

    `silent` names what is not said: size, colour, shape, place, relation, background, sky, ground, light.
    """
    words, spans = [], [(0, 0)] * len(scene["objects"])
    add = lambda text: words.extend(text.split())
    article = rng.random() < 0.75

    def add_object(i, **kwargs):
        if article and not kwargs.get("plural"):
            add("a")
        start = len(words)
        words.extend(phrase(rng, scene["objects"][i], silent=silent, **kwargs))
        spans[i] = (start, len(words))

    if rng.random() < 0.10:
        add(rng.choice(["a picture of", "a drawing of", "an image of"]))
    kind = scene["kind"]
    if kind == "landscape":
        land = scene["land"]
        parts = [] if "sky" in silent else [rng.choice(SKY_WORDS[land["sky"]])]
        if land["light"] and "light" not in silent:
            parts.append(f"the {land['light']} " + rng.choice(PLACE_WORDS[land["light_at"]]) if rng.random() < 0.8 else f"a {land['light']}")
        if land["clouds"] and "light" not in silent:
            parts.append(rng.choice(["clouds", "white clouds"]))
        if "ground" not in silent:
            if land["ground"] in ("hills", "both"):
                parts.append(rng.choice(["green hills", "hills"]))
            if land["ground"] in ("sea", "both"):
                parts.append(rng.choice(["the sea", "sea", "the ocean"]))
            if land["trees"]:
                parts.append("trees")
            if land["house"]:
                parts.append("a house")
        rng.shuffle(parts)
        parts = parts or ["a landscape"]
        if rng.random() < 0.3:
            parts = parts[: rng.randint(2, max(2, len(parts)))]
        if scene["objects"]:
            add_object(0)
            add(rng.choice(["above", "over", "in the sky ,"]))
        elif rng.random() < 0.4:
            add(rng.choice(["a landscape with", "a landscape ,", "a view of"]))
        add(rng.choice([" , ", " and " if len(parts) == 2 else " , "]).join(parts))
    elif kind == "one":
        add_object(0)
        if "place" not in silent and rng.random() < 0.8:
            add(rng.choice(PLACE_WORDS[scene["objects"][0]["place"]]))
    elif kind == "two":
        add_object(0)
        if "relation" not in silent and rng.random() < 0.9:
            add(rng.choice(RELATIONS[scene["relation"]]))
        else:
            add("and")
        add_object(1)
    else:
        add(KINDS[len(scene["objects"])])
        add_object(0, plural=True)
        spans[:] = [spans[0]] * len(spans)
    if scene["background"] and "background" not in silent and rng.random() < (0.35 if scene["background"] == "white" else 1):
        add(rng.choice(["on a {} background", "on {}", ", {} background", "on a plain {} background"]).format(rng.choice(WORDS[scene["background"]])))
    if rng.random() < 0.12:
        add(", " + " , ".join(rng.sample(QUALITY, rng.randint(1, 2))))
    if rng.random() < 0.05:
        add(", " + "".join(rng.choice("abcdefghijklmnoprstuvwz") for _ in range(rng.randint(3, 7))))
    roll = 1 if silent else rng.random()
    if roll < 0.03:
        words, spans = " , ".join(rng.sample(QUALITY + BAD, rng.randint(1, 4))).split(), [(0, 0)] * len(spans)
    elif roll < 0.07 and scene["objects"]:
        item = scene["objects"][0]
        bag = rng.sample([item["colour"], item["shape"]] + ([item["size"]] if item["size"] else []), rng.randint(1, 2))
        words, spans = " , ".join(bag).split(), [(0, 0)] * len(spans)
    return words, spans


def vocabulary() -> list:
    """Every word a caption can have, and what users of prompt enhancement are likely to say."""
    rng = random.Random(0)
    words = set("a an the and of with in on at to , . blue sky weather soft light bright dark simple flat colourful colors colours calm scene image picture drawing".split())
    for _ in range(20000):
        words.update(w for w in caption(rng, make_scene(rng, False))[0] if w.isalpha() and len(w) > 1)
    known = set()
    for table in (WORDS, PLACE_WORDS, RELATIONS, SKY_WORDS):
        for entries in table.values():
            for entry in entries:
                known.update(entry.split())
    for entry in QUALITY + BAD + list(PLURAL.values()) + list(KINDS.values()) + "shape shapes sun moon clouds hills sea ocean trees tree house landscape view plain background white green blue snow".split():
        known.update(entry.split())
    return sorted(known | {w for w in words if w in known} | set("picture drawing image with and of the".split()))


def pack(scenes: list, device) -> dict:
    """Scenes as tensors for `draw`."""
    rng = random.Random(len(scenes))
    n = len(scenes)
    obj = torch.zeros(n, 3, 8)
    land = torch.zeros(n, 24)
    bg = torch.zeros(n, 3)
    for i, scene in enumerate(scenes):
        jitter = lambda rgb: [(c + rng.uniform(-6, 6)) / 127.5 - 1 for c in rgb]
        if scene["background"]:
            bg[i] = torch.tensor(jitter(scene.get("background_rgb", COLOURS[scene["background"]])))
        for k, item in enumerate(scene["objects"]):
            obj[i, k] = torch.tensor([1, SHAPES.index(item["shape"]), item["at"][0], item["at"][1], item["radius"] * math.sqrt(scene["weights"][k]), *jitter(COLOURS[item["colour"]])])
        if scene["land"]:
            l = scene["land"]
            top, bottom = SKIES[l["sky"]]
            land[i] = torch.tensor([1, *jitter(top), *jitter(bottom), {None: 0, "sun": 1, "moon": 2}[l["light"]], l["light_x"], l["light_y"], l["clouds"], l["cloud_x"],
                                    l["ground"] in ("hills", "both"), l["ground"] in ("sea", "both"), l["horizon"], l["phase"], l["trees"], float(l["house"]), l["house_x"], {"day": 1.0, "sunset": 0.75, "night": 0.45}[l["sky"]], 0, 0, 0, 0])
    return {"obj": obj.to(device), "land": land.to(device), "bg": bg.to(device)}


def shape_distance(kind, x, y, r):
    """Signed distance (pixels, negative inside) of each shape at offsets x, y from its centre; `kind` selects per scene."""
    circle = torch.sqrt(x * x + y * y + 1e-6) - r
    half = 0.88 * r
    square = torch.maximum(x.abs(), y.abs()) - half
    inner = 0.62 * r
    ty = y - 0.18 * r
    triangle = torch.maximum(ty - inner, 0.8660254 * x.abs() - 0.5 * ty - inner)
    angle = torch.atan2(x, -y)
    sector = 2 * math.pi / 5
    folded = (angle + sector / 2) % sector - sector / 2
    rho = torch.sqrt(x * x + y * y + 1e-6)
    px, py = rho * torch.cos(folded), rho * torch.sin(folded).abs()
    outer, waist = 1.25 * r, 0.56 * r
    ax, ay, bx, by = outer, 0.0 * r, waist * math.cos(sector / 2), waist * math.sin(sector / 2)
    length = torch.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
    star = ((by - ay) * (px - ax) - (bx - ax) * (py - ay)) / length
    hx, hy = x / (0.95 * r), -(y - 0.08 * r) / (0.95 * r) + 0.1
    f = (hx * hx + hy * hy - 1) ** 3 - hx * hx * hy ** 3
    gx = 6 * hx * (hx * hx + hy * hy - 1) ** 2 - 2 * hx * hy ** 3
    gy = 6 * hy * (hx * hx + hy * hy - 1) ** 2 - 3 * hx * hx * hy ** 2
    heart = f / torch.sqrt(gx * gx + gy * gy + 0.02) * 0.95 * r
    out = circle
    for index, value in ((1, square), (2, triangle), (3, star), (4, heart)):
        out = torch.where(kind == index, value, out)
    return out


def draw(p: dict) -> torch.Tensor:
    """[B, 3, 128, 128] in [-1, 1]."""
    device = p["bg"].device
    axis = torch.arange(SIZE, device=device, dtype=torch.float32) + 0.5
    y, x = axis.view(1, -1, 1), axis.view(1, 1, -1)
    n = p["bg"].shape[0]
    image = p["bg"].view(n, 3, 1, 1).expand(n, 3, SIZE, SIZE).clone()
    cover = lambda d: (0.5 - d).clamp(0, 1).unsqueeze(1)
    paint = lambda img, mask, colour: img * (1 - mask) + colour * mask
    col = lambda i: p["land"][:, i].view(n, 1, 1)
    is_land = col(0).unsqueeze(1)
    top, bottom = p["land"][:, 1:4].view(n, 3, 1, 1), p["land"][:, 4:7].view(n, 3, 1, 1)
    t = (y / 84).clamp(0, 1).unsqueeze(1)
    scene = top * (1 - t) + bottom * t
    fixed = lambda rgb: torch.tensor(rgb, device=device, dtype=torch.float32).view(1, 3, 1, 1) / 127.5 - 1
    bright = col(19).unsqueeze(1)
    shade = lambda rgb: (fixed(rgb) + 1) * bright - 1
    disc = torch.sqrt((x - col(8)) ** 2 + (y - col(9)) ** 2)
    scene = paint(scene, cover(disc - 11) * (col(7) == 1).unsqueeze(1), fixed((255, 225, 90)))
    moon = torch.maximum(disc - 10, 8 - torch.sqrt((x - col(8) - 5) ** 2 + (y - col(9) + 3) ** 2))
    scene = paint(scene, cover(moon) * (col(7) == 2).unsqueeze(1), fixed((240, 240, 220)))
    for k in range(3):
        cx = (col(11) + k * 43) % 110 + 9
        cy = 16 + k * 9
        cloud = torch.minimum(torch.sqrt((x - cx) ** 2 / 3.2 + (y - cy) ** 2) - 5, torch.sqrt((x - cx - 5) ** 2 / 2 + (y - cy + 4) ** 2) - 5)
        scene = paint(scene, cover(cloud) * (col(10) > k).unsqueeze(1), shade((255, 255, 255)))
    horizon = col(14)
    ground_both = (col(12) * col(13)).unsqueeze(1)
    hill_y = horizon - 8 + 9 * torch.sin(x / 21 + col(15))
    near_y = horizon + 14 + 6 * torch.sin(x / 17 + 2 * col(15))
    has_hills, has_sea = col(12).unsqueeze(1), col(13).unsqueeze(1)
    scene = paint(scene, cover(hill_y - y) * has_hills, shade((95, 165, 85)))
    scene = paint(scene, cover(horizon + 10 - y + 0 * x) * has_sea, shade((35, 100, 180)))
    scene = paint(scene, cover(near_y - y) * has_hills * (1 - ground_both), shade((60, 135, 60)))
    base = horizon + 20
    house_x = col(18)
    house = torch.maximum((x - house_x).abs() - 11, (y - base + 2).abs() - 8)
    roof = torch.maximum(0.8 * (x - house_x).abs() + (y - base + 19).abs() * 0.6 - 10, y - base + 10)
    scene = paint(scene, cover(house) * col(17).unsqueeze(1), shade((225, 205, 170)))
    scene = paint(scene, cover(roof) * col(17).unsqueeze(1), shade((170, 60, 50)))
    for k in range(3):
        tx = (house_x + 28 + k * 31) % 128
        trunk = torch.maximum((x - tx).abs() - 1.8, (y - base + 1).abs() - 7)
        crown = torch.maximum((x - tx).abs() * 0.9 + 0.45 * (y - base + 6) - 0.5, -(y - base + 27))
        crown = torch.maximum(crown, y - base + 6)
        leaf = torch.sqrt((x - tx) ** 2 + (y - base + 14) ** 2) - 8.5
        on = (col(16) > k).unsqueeze(1)
        scene = paint(scene, cover(trunk) * on, shade((110, 75, 45)))
        scene = paint(scene, cover(leaf) * on, shade((30, 105, 45)))
    image = torch.where(is_land > 0, scene.expand(n, 3, SIZE, SIZE), image)
    for k in range(3):
        o = p["obj"][:, k]
        get = lambda i: o[:, i].view(n, 1, 1)
        d = shape_distance(get(1), x - get(2), y - get(3), get(4).clamp(min=1))
        image = paint(image, cover(d) * get(0).unsqueeze(1), o[:, 5:8].view(n, 3, 1, 1))
    return image
