"""The pocket video world: one shape that moves on a plain colour, or a sky; drawn on the training device from signed distances.

A scene is a row of numbers (`FIELDS`), so that thousands of clips are drawn in one call. Motions last the whole clip, however
long it is, except that blinking and orbiting go on at their own pace: the causal VAE codes frame 0 alone and then groups
of 4 frames, and a shape is seen or hidden for whole groups.
"""

import math
import random
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))
from shapes import COLOURS, SHAPES, choose, later_distances  # noqa: E402

SIZE = 64
FRAMES = 17
MOTIONS = ["left", "right", "up", "down", "grow", "shrink", "orbit", "blink", "still"]
SPEEDS = ["slow", "fast"]
PLACES = {"left": (-13, 0), "right": (13, 0), "top": (0, -13), "bottom": (0, 13), "centre": (0, 0)}
SKIES = {"day": ((110, 180, 245), (200, 230, 250)), "sunset": ((90, 60, 140), (250, 150, 80)), "night": ((10, 15, 45), (35, 45, 90))}
GLOW = {"day": 1.0, "sunset": 0.75, "night": 0.4}
HELD_OUT_SEED = 20261124
FIELDS = (["shape", "shown", "x", "y", "dx", "dy", "radius", "growth", "orbit_radius", "orbit_start", "orbit_turn", "blink_groups", "red", "green", "blue", "back_red", "back_green", "back_blue"]
          + ["sky"] + [f"{when}_{edge}_{c}" for when in ("first", "last") for edge in ("top", "bottom") for c in "rgb"]
          + ["first_glow", "last_glow", "ground", "hill", "light", "light_x", "clouds", "cloud_x"])
AT = {name: i for i, name in enumerate(FIELDS)}


def is_held_out(colour: str, shape: str, background: str, motion: str) -> bool:
    """One combination in eleven is never drawn in training."""
    index = list(COLOURS).index
    return (3 * index(colour) + 5 * SHAPES.index(shape) + 7 * index(background) + MOTIONS.index(motion)) % 11 == 0


def make_scene(rng: random.Random, still=False, held_out=False) -> dict:
    """What a clip shows. `still`: a picture. `held_out`: only combinations that training never draws."""
    if not held_out and rng.random() < 0.14:
        return make_sky(rng, still)
    while True:
        colour, shape, motion = rng.choice(list(COLOURS)), rng.choice(SHAPES), "still" if still else rng.choice(MOTIONS)
        # a background that no caption names is white: an unnamed attribute must have one likely value, or guidance invents colours
        background = "white" if rng.random() < 0.25 else rng.choice(list(COLOURS))
        if background != colour and (still or is_held_out(colour, shape, background, motion) == held_out):
            break
    return {"kind": "shape", "colour": colour, "shape": shape, "motion": motion, "speed": rng.choice(SPEEDS), "background": background,
            "size": rng.choice(["small", "large"]), "place": rng.choice(list(PLACES)) if motion in ("still", "blink") and rng.random() < 0.6 else "centre"}


def make_sky(rng, still):
    change = not still and rng.random() < 0.5
    when = "day" if change else rng.choice(list(SKIES))
    scene = {"kind": "sky", "sky": "day to night" if change else when, "ground": rng.choice([None, "hills", "sea"]), "clouds": rng.random() < 0.35,
             "light": rng.choice([None, "left", "right", "centre"]), "colour": None, "shape": None, "motion": "still", "speed": rng.choice(SPEEDS), "size": "small", "place": "centre"}
    if rng.random() < 0.35:
        scene.update(colour=rng.choice(list(COLOURS)), shape=rng.choice(SHAPES), motion="still" if still else rng.choice(MOTIONS))
    return scene


def place_shape(rng, scene, row):
    """Numbers of the shape and its path; radii of 10 px and more keep every form clear for the VAE."""
    motion, fast = scene["motion"], scene["speed"] == "fast"
    large = scene["size"] == "large"
    radius = rng.uniform(13, 14.5) if large else rng.uniform(10, 11)
    x, y = 32 + rng.uniform(-3, 3), 32 + rng.uniform(-3, 3)
    if motion in ("left", "right", "up", "down"):
        radius = rng.uniform(12, 13) if large else rng.uniform(10, 11)
        way = rng.uniform(25, 28) if fast else rng.uniform(11, 14)
        axis, sign = {"left": ("dx", -1), "right": ("dx", 1), "up": ("dy", -1), "down": ("dy", 1)}[motion]
        row[AT[axis]] = sign * way
        side = rng.uniform(-5, 5)
        x, y = (x, 32 + side) if axis == "dx" else (32 + side, y)
    elif motion in ("grow", "shrink"):
        ratio = rng.uniform(1.85, 2.0) if fast else rng.uniform(1.35, 1.45)
        small = rng.uniform(10, 10.6)
        radius = small if motion == "grow" else small * ratio
        row[AT["growth"]] = math.log(ratio) if motion == "grow" else -math.log(ratio)
    elif motion == "orbit":
        radius = rng.uniform(10, 11)
        row[AT["orbit_radius"]] = rng.uniform(13, 14.5)
        row[AT["orbit_start"]] = rng.uniform(0, 2 * math.pi)
        row[AT["orbit_turn"]] = math.radians(rng.uniform(230, 250) if fast else rng.uniform(115, 130))
        x, y = 32 + rng.uniform(-1.5, 1.5), 32 + rng.uniform(-1.5, 1.5)
    elif motion == "blink":
        row[AT["blink_groups"]] = 1 if fast else 2
    px, py = PLACES[scene["place"]]
    row[AT["shape"]], row[AT["shown"]], row[AT["x"]], row[AT["y"]], row[AT["radius"]] = SHAPES.index(scene["shape"]), 1, x + px, y + py, radius
    row[AT["red"] : AT["red"] + 3] = jitter(rng, COLOURS[scene["colour"]])


def jitter(rng, rgb):
    return [(c + rng.uniform(-5, 5)) / 127.5 - 1 for c in rgb]


def pack(rng: random.Random, scene: dict) -> list:
    """A scene as a row of FIELDS; one scene has many rows."""
    row = [0.0] * len(FIELDS)
    if scene["shape"]:
        place_shape(rng, scene, row)
    if scene["kind"] == "shape":
        row[AT["back_red"] : AT["back_red"] + 3] = jitter(rng, COLOURS[scene["background"]])
        return row
    ends = ("day", "night") if scene["sky"] == "day to night" else (scene["sky"], scene["sky"])
    row[AT["sky"]] = 1
    for k, when in enumerate(ends):
        for e, edge in enumerate(SKIES[when]):
            start = AT["first_top_r"] + 6 * k + 3 * e
            row[start : start + 3] = jitter(rng, edge)
        row[AT["first_glow"] + k] = GLOW[when]
    row[AT["ground"]] = {None: 0, "hills": 1, "sea": 2}[scene["ground"]]
    row[AT["hill"]], row[AT["cloud_x"]] = rng.uniform(0, 2 * math.pi), rng.uniform(0, 40)
    if scene["light"]:
        row[AT["light"]] = 2 if scene["sky"] == "night" else 1
        row[AT["light_x"]] = {"left": 14, "right": 50, "centre": 32}[scene["light"]] + rng.uniform(-2, 2)
    row[AT["clouds"]] = float(scene["clouds"])
    return row


def shape_distance(kind, x, y, r):
    """Signed distance (pixels, negative inside) of each shape at offsets x, y from its centre; `kind` selects per scene."""
    rho = torch.sqrt(x * x + y * y + 1e-6)
    circle = rho - r
    square = torch.maximum(x.abs(), y.abs()) - 0.88 * r
    inner = 0.62 * r
    ty = y - 0.18 * r
    triangle = torch.maximum(ty - inner, 0.8660254 * x.abs() - 0.5 * ty - inner)
    sector = 2 * math.pi / 5
    folded = (torch.atan2(x, -y) + sector / 2) % sector - sector / 2
    px, py = rho * torch.cos(folded), rho * torch.sin(folded).abs()
    tip, notch_x, notch_y = 1.25 * r, 0.56 * r * math.cos(sector / 2), 0.56 * r * math.sin(sector / 2)
    star = (notch_y * (px - tip) - (notch_x - tip) * py) / torch.sqrt((notch_x - tip) ** 2 + notch_y**2)
    # the heart of two quarter circles on a square, in its own unit: point at 0, notch at 1
    unit = 1.75 * r
    hx, hy = x.abs() / unit, 0.56 - y / unit
    lobe = torch.sqrt((hx - 0.25) ** 2 + (hy - 0.75) ** 2 + 1e-9) - math.sqrt(2) / 4
    along = 0.5 * (hx + hy).clamp(min=0)
    sides = torch.sqrt(torch.minimum(hx * hx + (hy - 1) ** 2, (hx - along) ** 2 + (hy - along) ** 2) + 1e-9) * torch.sign(hx - hy)
    heart = torch.where(hx + hy > 1, lobe, sides) * unit
    return choose(kind, [circle, square, triangle, star, heart, *later_distances(circle, rho, x, y, r)])


def draw(rows: torch.Tensor, frames: int) -> torch.Tensor:
    """rows [B, FIELDS] -> [B, frames, 3, 64, 64] in [-1, 1]."""
    n, device = rows.shape[0], rows.device
    field = lambda name, width=1: rows[:, AT[name] : AT[name] + width].float()
    scalar = lambda name: field(name).view(n, 1, 1, 1)
    t = torch.arange(frames, device=device, dtype=torch.float32).view(1, frames, 1, 1)
    share = t / (frames - 1) if frames > 1 else t
    axis = torch.arange(SIZE, device=device, dtype=torch.float32) + 0.5
    y, x = axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)
    cover = lambda d: (0.5 - d).clamp(0, 1).unsqueeze(2)
    paint = lambda image, mask, colour: image + mask * (colour - image)
    constant = lambda rgb: torch.tensor(rgb, device=device, dtype=torch.float32).view(1, 1, 3, 1, 1) / 127.5 - 1

    image = field("back_red", 3).view(n, 1, 3, 1, 1).expand(n, frames, 3, SIZE, SIZE)
    image = torch.where(scalar("sky").unsqueeze(2) > 0, draw_sky(n, field, scalar, share, x, y, cover, paint, constant), image)
    angle = scalar("orbit_start") + scalar("orbit_turn") * t / 16
    path = share - 0.5
    cx = scalar("x") + scalar("dx") * path + scalar("orbit_radius") * torch.cos(angle)
    cy = scalar("y") + scalar("dy") * path + scalar("orbit_radius") * torch.sin(angle)
    groups = scalar("blink_groups")
    # frame 0 is seen, then hidden and seen by turns for 1 or 2 latents of 4 frames
    hidden = (groups > 0) & (t > 0) & (torch.floor((t - 1) / (4 * groups.clamp(min=1))) % 2 == 0)
    distance = shape_distance(scalar("shape"), x - cx, y - cy, scalar("radius").clamp(min=1) * torch.exp(scalar("growth") * share))
    seen = (scalar("shown") * ~hidden).unsqueeze(2)
    return paint(image, cover(distance) * seen, field("red", 3).view(n, 1, 3, 1, 1))


def draw_sky(n, field, scalar, share, x, y, cover, paint, constant):
    change = share.unsqueeze(2)
    between = lambda first, last, width: field(first, width).view(n, 1, width, 1, 1) * (1 - change) + field(last, width).view(n, 1, width, 1, 1) * change
    height = (y / 46).clamp(0, 1).unsqueeze(2)
    image = between("first_top_r", "last_top_r", 3) * (1 - height) + between("first_bottom_r", "last_bottom_r", 3) * height
    glow = between("first_glow", "last_glow", 1)
    shade = lambda rgb: (constant(rgb) + 1) * glow - 1
    light = scalar("light").unsqueeze(2)
    disc = cover(torch.sqrt((x - scalar("light_x")) ** 2 + (y - 14) ** 2) - 6.5)
    # the sun of a day that ends pales into the moon
    pale = torch.where(light == 2, torch.ones_like(glow), ((1 - glow) / 0.6 * (field("last_glow").view(n, 1, 1, 1, 1) < 0.5)).clamp(0, 1))
    image = paint(image, disc * (light > 0), constant((255, 225, 90)) * (1 - pale) + constant((235, 235, 215)) * pale)
    for k in range(2):
        cloud = torch.sqrt((x - (scalar("cloud_x") + 30 * k) % 60 - 2) ** 2 / 4 + (y - 10 - 12 * k) ** 2) - 3.5
        image = paint(image, cover(cloud) * scalar("clouds").unsqueeze(2), shade((250, 250, 250)))
    ground = scalar("ground").unsqueeze(2)
    hills = cover(47 + 4 * torch.sin(x / 10 + scalar("hill")) - y)
    image = paint(image, hills * (ground == 1), shade((85, 160, 75)))
    return paint(image, cover(47 - y + 0 * x) * (ground == 2), shade((35, 100, 180)))
