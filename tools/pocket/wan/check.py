"""What a clip shows, measured: nearest palette colour, overlap with ideal forms, path of centroid, area and visibility.

Shares no code with the drawing. `judge` returns the items that are wrong: an empty list is a clip with everything right.
"""

import math

import numpy as np

PALETTE = {"red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 220, 50), "green": (40, 160, 70), "blue": (50, 90, 220), "purple": (140, 60, 180), "white": (245, 245, 245), "black": (25, 25, 25),
           "pink": (250, 150, 190), "brown": (125, 75, 40)}
NAMES = list(PALETTE)
COLOURS = np.array(list(PALETTE.values()), np.float32)


def unit_forms(size=96):
    """Masks of the ideal forms, each scaled to fill its own bounding box of 96 x 96."""
    y, x = np.mgrid[-1.5:1.5:600j, -1.5:1.5:600j]
    sector = 2 * math.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    rho = np.hypot(x, y)
    bx, by = 0.45 * math.cos(sector / 2), 0.45 * math.sin(sector / 2)
    up, wide = 0.5 - y, np.abs(x)
    heart = np.where(up + wide > 1, np.hypot(wide - 0.25, up - 0.75) < math.sqrt(2) / 4, (up > wide) & (up <= 1))
    ax, ay = 0.55 * x, 0.55 * y
    arrow = ((np.abs(ax + 0.275) <= 0.275) & (np.abs(ay) <= 0.125)) | ((ax >= 0) & (0.375 * ax + 0.55 * np.abs(ay) <= 0.375 * 0.55))
    masks = {"ring": (rho <= 1) & (rho >= 0.5), "cross": ((wide <= 1) & (np.abs(y) <= 0.3)) | ((wide <= 0.3) & (np.abs(y) <= 1)), "diamond": wide / 0.75 + np.abs(y) <= 1, "arrow": arrow,
             "circle": rho <= 1, "square": np.maximum(abs(x), abs(y)) <= 1, "triangle": (y <= 0.5) & (wide <= (y + 1) / math.sqrt(3)),
             "star": (bx - 1) * rho * np.sin(angle) - by * (rho * np.cos(angle) - 1) > 0, "heart": heart}
    return {name: (crop(mask, size), box_ratio(mask)) for name, mask in masks.items()}


def crop(mask, size):
    rows, columns = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pick = lambda n: (np.arange(size) * n / size).astype(int)
    return box[pick(box.shape[0])][:, pick(box.shape[1])]


def box_ratio(mask):
    return mask.any(0).sum() / mask.any(1).sum()


FORMS = unit_forms()


def form_of(mask):
    """Best of the ideal forms by overlap in the bounding box, less the mismatch of the box's proportions."""
    ratio, box = box_ratio(mask), crop(mask, 96)
    scores = {name: (box & form).sum() / (box | form).sum() - 0.5 * abs(math.log(ratio / wanted)) for name, (form, wanted) in FORMS.items()}
    return max(scores, key=scores.get)


def largest_blob(mask):
    """The largest 4-connected region, by flood from its rows' runs."""
    labels = np.zeros(mask.shape, int)
    best, count = None, 0
    for start in zip(*np.where(mask)):
        if labels[start]:
            continue
        count += 1
        stack, cells = [start], []
        labels[start] = count
        while stack:
            r, c = stack.pop()
            cells.append((r, c))
            for n in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if 0 <= n[0] < mask.shape[0] and 0 <= n[1] < mask.shape[1] and mask[n] and not labels[n]:
                    labels[n] = count
                    stack.append(n)
        if best is None or len(cells) > len(best):
            best = cells
    out = np.zeros_like(mask)
    if best:
        out[tuple(np.array(best).T)] = True
    return out


def look(frame):
    """frame uint8 [64, 64, 3] -> background, and the shape's colour, mask, area and centroid (None when it is not there)."""
    classes = np.linalg.norm(frame[:, :, None].astype(np.float32) - COLOURS, axis=-1).argmin(-1)
    border = np.concatenate([classes[:2].ravel(), classes[-2:].ravel(), classes[:, :2].ravel(), classes[:, -2:].ravel()])
    ground = np.bincount(border, minlength=len(NAMES)).argmax()
    # edges blend into third colours: the shape is what is nearer to it than to the ground
    back = np.median(frame[classes == ground].reshape(-1, 3), axis=0)
    mask = largest_blob(np.linalg.norm(frame - back, axis=-1) > 40)
    area = int(mask.sum())
    if area < 50:
        return {"background": NAMES[ground], "area": 0}
    inner = np.bincount(classes[mask], minlength=len(NAMES))
    inner[ground] = 0
    colour = int(inner.argmax())
    own = np.median(frame[mask & (classes == colour)].reshape(-1, 3), axis=0) if inner[colour] else COLOURS[colour]
    mask = largest_blob(np.linalg.norm(frame - own, axis=-1) < np.linalg.norm(frame - back, axis=-1))
    area = int(mask.sum())
    if area < 50:
        return {"background": NAMES[ground], "area": 0}
    rows, columns = np.where(mask)
    return {"background": NAMES[ground], "colour": NAMES[colour], "mask": mask, "area": area, "x": columns.mean(), "y": rows.mean()}


def motion_of(seen):
    """(motion, is fast) from the looks of all frames; thresholds for 17 frames."""
    there = [s["area"] > 0 for s in seen]
    if not all(there):
        return "blink", sum(a != b for a, b in zip(there, there[1:])) > 2
    x, y, area = (np.array([s[key] for s in seen], float) for key in ("x", "y", "area"))
    head, tail = slice(0, 2), slice(-2, None)
    dx, dy = x[tail].mean() - x[head].mean(), y[tail].mean() - y[head].mean()
    ratio = math.sqrt(area[tail].mean() / area[head].mean())
    way = np.hypot(np.diff(x), np.diff(y)).sum()
    straight = math.hypot(dx, dy)
    middle = np.array([x[len(x) // 2], y[len(y) // 2]]) - np.array([x[head].mean() + x[tail].mean(), y[head].mean() + y[tail].mean()]) / 2
    if abs(math.log(ratio)) > 0.15 and way < 12:
        return ("grow" if ratio > 1 else "shrink"), abs(math.log(ratio)) > 0.48
    if straight > 5 or way > 12:
        bend = np.hypot(*middle)
        if bend > 4:
            return "orbit", bend > 10.5
        if abs(dx) > abs(dy):
            return ("left" if dx < 0 else "right"), abs(dx) > 18.5
        return ("up" if dy < 0 else "down"), abs(dy) > 18.5
    return "still", None


def darkening(frames):
    return float(frames[:3, 2:40].mean() - frames[-3:, 2:40].mean())


def judge(item, frames):
    """item: what a prompt states (held_out.py); frames uint8 [T, 64, 64, 3] -> the wrong items of background, colour, shape, motion, speed."""
    frames = np.asarray(frames)
    if item["kind"] == "day to night":
        return [] if darkening(frames) > 60 else ["motion"]
    seen = [look(frame) for frame in frames]
    shown = [s for s in seen if s["area"]]
    most = lambda values: max(set(values), key=values.count) if values else None
    wrong = [] if most([s["background"] for s in seen]) == item["background"] else ["background"]
    if most([s["colour"] for s in shown]) != item["colour"]:
        wrong.append("colour")
    if most([form_of(s["mask"]) for s in shown]) != item["shape"]:
        wrong.append("shape")
    if item.get("motion") and len(frames) > 1:
        motion, fast = motion_of(seen)
        if motion != item["motion"]:
            wrong.append("motion")
        elif item.get("speed") and motion != "still" and fast != (item["speed"] == "fast"):
            wrong.append("speed")
    return wrong


def summary(wrongs):
    """Percentages right: everything but the speed (the gate), and each item."""
    share = lambda bad: round(100 * sum(not bad(w) for w in wrongs) / max(1, len(wrongs)), 1)
    return {"all": share(lambda w: bool(set(w) - {"speed"})), **{item: share(lambda w, item=item: item in w) for item in ("background", "colour", "shape", "motion", "speed")}}


def to_bytes(clips):
    """torch [B, T, 3, H, W] in [-1, 1] -> uint8 [B, T, H, W, 3]."""
    return ((clips.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
