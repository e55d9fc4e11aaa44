"""What a picture of the pocket world shows, for a look at the end of training; the tests judge through the product (tools/pocket-check)."""

import math

import numpy as np

import world

NAMES = list(world.COLOURS)
PALETTE = np.array(list(world.COLOURS.values()), np.float32)


def forms(size=64):
    import torch

    axis = torch.linspace(-1.6, 1.6, 400)
    y, x = axis.view(1, -1, 1), axis.view(1, 1, -1)
    found = {}
    for k, name in enumerate(world.SHAPES):
        mask = (world.shape_distance(torch.tensor(float(k)).view(1, 1, 1), x, y, torch.ones(1, 1, 1)) < 0)[0].numpy()
        found[name] = (crop(mask, size), ratio(mask))
    return found


def crop(mask, size=64):
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pick = lambda n: (np.arange(size) * n / size).astype(int)
    return box[pick(box.shape[0])][:, pick(box.shape[1])]


def ratio(mask):
    return mask.any(0).sum() / max(1, mask.any(1).sum())


FORMS = forms()


def regions(mask):
    """4-connected regions of a mask, as masks."""
    try:
        from scipy.ndimage import label
    except ImportError:
        label = slow_label
    marked, count = label(mask)
    return [marked == k + 1 for k in range(count)]


def slow_label(mask):
    marked, count = np.zeros(mask.shape, int), 0
    for start in zip(*np.where(mask)):
        if marked[start]:
            continue
        count += 1
        marked[start] = count
        stack = [start]
        while stack:
            r, c = stack.pop()
            for n in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if 0 <= n[0] < mask.shape[0] and 0 <= n[1] < mask.shape[1] and mask[n] and not marked[n]:
                    marked[n] = count
                    stack.append(n)
    return marked, count


def filled(mask):
    """The mask with its holes."""
    outside = np.zeros_like(mask)
    for region in regions(np.pad(~mask, 1, constant_values=True)):
        if region[0, 0]:
            outside = region[1:-1, 1:-1]
    return ~outside


def look(picture):
    """uint8 [128, 128, 3] -> background and things, the largest first."""
    classes = np.linalg.norm(picture[:, :, None].astype(np.float32) - PALETTE, axis=-1).argmin(-1)
    border = np.concatenate([classes[:4].ravel(), classes[-4:].ravel(), classes[:, :4].ravel(), classes[:, -4:].ravel()])
    ground = int(np.bincount(border, minlength=len(NAMES)).argmax())
    things = []
    for region in regions(classes != ground):
        area = int(region.sum())
        if area < 60:
            continue
        counts = np.bincount(classes[region], minlength=len(NAMES))
        whole = filled(region)
        rows, columns = np.where(whole)
        hole = 1 - area / whole.sum()
        outline = hole > 0.35
        solid = whole if outline else region
        box, wide = crop(solid), ratio(solid)
        scores = {name: (box & form).sum() / (box | form).sum() - 0.5 * abs(math.log(wide / wanted)) for name, (form, wanted) in FORMS.items()}
        things.append({"colour": NAMES[int(counts.argmax())], "shape": max(scores, key=scores.get), "area": area, "x": columns.mean(), "y": rows.mean(), "outline": outline})
    return NAMES[ground], sorted(things, key=lambda t: -t["area"])


ORDER = {"above": lambda t: t["y"], "below": lambda t: -t["y"], "left of": lambda t: t["x"], "right of": lambda t: -t["x"]}


def judge(item, picture):
    """What is wrong: item has objects (one entry a thing), background, relation; absent is not asked."""
    if item["kind"] == "landscape":
        return judge_land(item, picture)
    background, things = look(picture)
    wrong = [] if background == (item.get("background") or "white") else [f"background {background}"]
    wanted = item["objects"]
    if len(things) != len(wanted):
        return [*wrong, f"count {len(things)}"]
    if item.get("relation"):
        things.sort(key=ORDER[item["relation"]])
        return wrong + [w for thing, want in zip(things, wanted) for w in differences(thing, want)]
    # side by side: each with what is left and fits it best
    for want in wanted:
        nearest = min(things, key=lambda t: len(differences(t, want)))
        wrong += differences(nearest, want)
        things = [t for t in things if t is not nearest]
    return wrong


def differences(thing, want):
    wrong = [key for key in ("colour", "shape") if want.get(key) and thing[key] != want[key]]
    if want.get("outline") is not None and want["shape"] in world.OUTLINED and thing["outline"] != bool(want["outline"]):
        wrong.append("outline")
    # an outline covers a part of what the size says
    if want.get("size") and not want.get("outline") and ((thing["area"] > 950) if want["size"] == "small" else (thing["area"] < 800)):
        wrong.append("size")
    if want.get("place"):
        dx, dy = thing["x"] - 64, thing["y"] - 64
        place = "centre" if math.hypot(dx, dy) < 15 else ("left" if dx < 0 else "right") if abs(dx) > abs(dy) else ("top" if dy < 0 else "bottom")
        if place != want["place"]:
            wrong.append("place")
    return wrong


def judge_land(item, picture):
    band, low = picture[50:62].mean((0, 1)), picture[-14:-2].mean((0, 1))
    dark = picture[:40].mean() < 75
    sky = "night" if dark else "sunset" if band[0] > band[2] else "day"
    wrong = [] if not item.get("sky") or sky == item["sky"] else ["sky"]
    ground = "hills" if low[1] > low[2] else "sea"
    if item.get("ground") in ("hills", "sea") and ground != item["ground"]:
        wrong.append("ground")
    return wrong


def summary(items, wrongs):
    by, kinds = {}, {}
    for item, wrong in zip(items, wrongs):
        by.setdefault(item["kind"], []).append(not wrong)
        for w in wrong:
            kinds[w.split()[0]] = kinds.get(w.split()[0], 0) + 1
    by["all"] = [not w for w in wrongs]
    return {**{k: f"{100 * sum(v) / len(v):.1f} % of {len(v)}" for k, v in by.items()}, "wrong": kinds}
