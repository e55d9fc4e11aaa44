"""The pocket world: scenes, their captions, and their pictures, drawn on the training device from signed distances."""

import math
import random
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from shapes import COLOURS, SHAPES, choose, later_distances  # noqa: E402

SIZE = 128
OUTLINED = SHAPES[:5] + ["diamond"]
PLACES = {"left": (34, 64), "right": (94, 64), "top": (64, 34), "bottom": (64, 94), "centre": (64, 64)}
RELATIONS = {"above": ((64, 34), (64, 94)), "below": ((64, 94), (64, 34)), "left of": ((34, 64), (94, 64)), "right of": ((94, 64), (34, 64))}
# where several lie: in a row, in two rows, as on a die
LAYOUTS = {2: [(40, 64), (88, 64)], 3: [(26, 64), (64, 64), (102, 64)], 4: [(40, 40), (88, 40), (40, 88), (88, 88)], 5: [(33, 33), (95, 33), (64, 64), (33, 95), (95, 95)]}
TRIANGLE = [(64, 36), (34, 90), (94, 90)]
MOST = 5
STROKE = 4.5
UNSEEN = {("purple", "star"), ("orange", "heart"), ("green", "triangle"), ("pink", "ring")}
SKIES = {"day": ((110, 180, 245), (200, 230, 250)), "sunset": ((90, 60, 140), (250, 150, 80)), "night": ((10, 15, 45), (35, 45, 90))}


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


def pick_thing(rng, seen_only, size=True):
    colour, shape = pick_pair(rng, seen_only)
    return {"colour": colour, "shape": shape, "size": pick_size(rng) if size else None, "outline": shape in OUTLINED and rng.random() < 0.12}


KIND_SHARES = {"one": 0.32, "two": 0.27, "several": 0.2, "group": 0.05, "landscape": 0.16}


def make_scene(rng: random.Random, seen_only=True, kind=None, weighted=0.22) -> dict:
    """`weighted`: share of scenes with one or two objects in which one has an area times a weight."""
    kind = kind or rng.choices(list(KIND_SHARES), list(KIND_SHARES.values()))[0]
    scene = {"kind": kind, "objects": [], "weights": [], "background": None, "land": None}
    near = lambda at, much: (at[0] + rng.uniform(-much, much), at[1] + rng.uniform(-much, much))
    if kind == "landscape":
        sky = rng.choice(list(SKIES))
        ground = rng.choice(["hills", "sea", "both"])
        light = "moon" if sky == "night" else "sun"
        scene["land"] = {"sky": sky, "ground": ground, "light": light if rng.random() < 0.7 else None, "light_at": rng.choice(["left", "right", "centre"]),
                         "clouds": rng.choice([0, 0, 2, 3]), "trees": rng.choice([0, 0, 2, 3]) if ground != "sea" else 0, "house": rng.random() < 0.3 and ground != "sea"}
        if rng.random() < 0.3:
            scene["objects"] = [{**pick_thing(rng, seen_only), "outline": False, "at": (rng.uniform(45, 83), rng.uniform(38, 50))}]
    else:
        if kind == "one":
            thing = pick_thing(rng, seen_only)
            place = rng.choice(list(PLACES))
            things = [{**thing, "place": place, "at": near(PLACES[place], 5)}]
        elif kind == "two":
            scene["relation"] = rng.choice(list(RELATIONS))
            things = [{**pick_thing(rng, seen_only), "at": near(at, 5)} for at in RELATIONS[scene["relation"]]]
        elif kind == "several":
            count = rng.choice([2, 3, 3, 4, 4, 5, 5])
            thing, lift = {**pick_thing(rng, seen_only, False), "outline": False}, rng.uniform(-12, 12) if count < 4 else 0
            if thing["shape"] in OUTLINED and count < 4 and rng.random() < 0.06:
                thing["outline"] = True
            things = [{**thing, "at": near((x, y + lift), 3)} for x, y in LAYOUTS[count]]
        else:
            # different things together; now and then two of the first
            things = [{**pick_thing(rng, seen_only, False), "outline": False} for _ in range(3)]
            if rng.random() < 0.4:
                things[1] = dict(things[0])
            places = LAYOUTS[3] if rng.random() < 0.5 else TRIANGLE
            things = [{**thing, "at": near(at, 4)} for thing, at in zip(things, places)]
        scene["objects"] = things
        scene["background"] = pick_background(rng, [thing["colour"] for thing in things])
    scene["weights"] = [1.0] * len(scene["objects"])
    if kind in ("one", "two") and rng.random() < weighted:
        scene["weights"][rng.randrange(len(scene["objects"]))] = math.exp(rng.uniform(math.log(0.3), math.log(1.8)))
    settle(rng, scene)
    return scene


def settle(rng, scene) -> None:
    """Fixes what a picture needs beyond the words: radii, and where a landscape's parts lie."""
    for item in scene["objects"]:
        if scene["kind"] in ("several", "group"):
            radius = rng.uniform(14, 16.5) - {2: 0, 3: 2, 4: 0.5, 5: 2}[len(scene["objects"])]
            radius *= 0.88 if item["shape"] in ("star", "arrow") else 1
        else:
            radius = rng.uniform(*{"small": (12, 14.5), "large": (20, 23), None: (16, 18)}[item["size"]])
        item["radius"] = radius * (0.75 if scene["land"] else 1)
    if scene["land"]:
        light_x = {"left": 28, "right": 100, "centre": 64}[scene["land"]["light_at"]] + rng.uniform(-4, 4)
        scene["land"] |= {"light_x": light_x, "light_y": rng.uniform(20, 27), "cloud_x": rng.uniform(0, 100), "horizon": rng.uniform(74, 84), "phase": rng.uniform(0, 6.28), "house_x": rng.uniform(20, 100)}


def pack(scenes: list, device) -> dict:
    """Scenes as tensors for `draw`."""
    rng = random.Random(len(scenes))
    n = len(scenes)
    obj = torch.zeros(n, MOST, 9)
    land = torch.zeros(n, 24)
    bg = torch.zeros(n, 3)
    for i, scene in enumerate(scenes):
        jitter = lambda rgb: [(c + rng.uniform(-6, 6)) / 127.5 - 1 for c in rgb]
        if scene["background"]:
            bg[i] = torch.tensor(jitter(scene.get("background_rgb", COLOURS[scene["background"]])))
        for k, item in enumerate(scene["objects"]):
            obj[i, k] = torch.tensor([1, SHAPES.index(item["shape"]), item["at"][0], item["at"][1], item["radius"] * math.sqrt(scene["weights"][k]), *jitter(COLOURS[item["colour"]]), float(item.get("outline") or 0)])
        if scene["land"]:
            l = scene["land"]
            top, bottom = SKIES[l["sky"]]
            land[i] = torch.tensor([1, *jitter(top), *jitter(bottom), {None: 0, "sun": 1, "moon": 2}[l["light"]], l["light_x"], l["light_y"], l["clouds"], l["cloud_x"],
                                    l["ground"] in ("hills", "both"), l["ground"] in ("sea", "both"), l["horizon"], l["phase"], l["trees"], float(l["house"]), l["house_x"], {"day": 1.0, "sunset": 0.75, "night": 0.45}[l["sky"]], 0, 0, 0, 0])
    return {"obj": obj.to(device), "land": land.to(device), "bg": bg.to(device)}


def shape_distance(kind, x, y, r):
    """Signed distance (pixels, negative inside) of each shape at offsets x, y from its centre; `kind` selects per scene."""
    rho = torch.sqrt(x * x + y * y + 1e-6)
    circle = rho - r
    half = 0.88 * r
    square = torch.maximum(x.abs(), y.abs()) - half
    inner = 0.62 * r
    ty = y - 0.18 * r
    triangle = torch.maximum(ty - inner, 0.8660254 * x.abs() - 0.5 * ty - inner)
    angle = torch.atan2(x, -y)
    sector = 2 * math.pi / 5
    folded = (angle + sector / 2) % sector - sector / 2
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
    return choose(kind, [circle, square, triangle, star, heart, *later_distances(circle, rho, x, y, r)])


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
    for k in range(MOST):
        o = p["obj"][:, k]
        get = lambda i: o[:, i].view(n, 1, 1)
        d = shape_distance(get(1), x - get(2), y - get(3), get(4).clamp(min=1))
        # an outline is the band inside the edge
        d = torch.where(get(8) > 0, torch.maximum(d, -STROKE - d), d)
        image = paint(image, cover(d) * get(0).unsqueeze(1), o[:, 5:8].view(n, 3, 1, 1))
    return image
