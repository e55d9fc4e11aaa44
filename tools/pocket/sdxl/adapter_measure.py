"""A quick look at the end of training, on held-out pairs: does each mode keep its own thing, do weights act? The tests judge more strictly."""

import random

import torch

import adapter
import pairs
import world
from captions import caption, frame


@torch.no_grad()
def draw(student, vae, cond, reference, scale, seed, steps=15, guidance=6.0):
    """Euler, leading spacing, as the worker draws: pictures [B, 3, 128, 128] in [-1, 1]."""
    device = reference.device
    bars = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=device) ** 2, 0)
    ratio = 1000 // steps
    times = [(steps - 1 - i) * ratio + 1 for i in range(steps)]
    sigmas = [float(((1 - bars[t]) / bars[t]).sqrt()) for t in times] + [0.0]
    count = reference.shape[0]
    x = torch.randn(count, 4, 16, 16, generator=torch.Generator("cpu").manual_seed(seed)).to(device) * (sigmas[0] ** 2 + 1) ** 0.5
    time_ids = torch.tensor([[128.0, 128, 0, 0, 128, 128]], device=device).expand(2 * count, 6)
    embeds = torch.cat([torch.zeros_like(cond[0]), cond[0]])
    pooled = torch.cat([torch.zeros_like(cond[1]), cond[1]])
    tokens = student.tokens(reference)
    ip = adapter.picture_arguments(torch.cat([torch.zeros_like(tokens), tokens]), torch.cat([scale, scale]), reference)
    for i, t in enumerate(times):
        both = torch.cat([x, x]) / (sigmas[i] ** 2 + 1) ** 0.5
        noise = student.unet(both, torch.tensor(t, device=device), encoder_hidden_states=embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}, cross_attention_kwargs=ip, return_dict=False)[0]
        x = x + (noise[:count] + guidance * (noise[count:] - noise[:count])) * (sigmas[i + 1] - sigmas[i])
    return vae.decode(x / vae.config.scaling_factor).sample.clamp(-1, 1)


def background_of(pictures):
    """Median of the border, [B, 3]."""
    border = torch.cat([pictures[:, :, :4].flatten(2), pictures[:, :, -4:].flatten(2), pictures[:, :, :, :4].flatten(2), pictures[:, :, :, -4:].flatten(2)], 2)
    return border.median(2).values


def foreground_of(pictures):
    """[B, 128, 128]: what is not background."""
    return (pictures - background_of(pictures)[:, :, None, None]).abs().sum(1) > 0.5


def colour_of(pictures, masks):
    """Mean colour under a mask, [B, 3]."""
    m = masks.unsqueeze(1).float()
    return (pictures * m).sum((2, 3)) / m.sum((2, 3)).clamp(min=1)


def overlap(a, b):
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2)).clamp(min=1)


def centred(masks):
    """Masks moved to the middle and brought to one area, to compare forms: [B, 64, 64]."""
    axis = torch.arange(128, device=masks.device, dtype=torch.float32) + 0.5
    m = masks.float()
    total = m.sum((1, 2)).clamp(min=1)
    x, y = (m.sum(1) * axis).sum(1) / total, (m.sum(2) * axis).sum(1) / total
    half = total.sqrt()
    grid = (torch.arange(64, device=masks.device) + 0.5) / 32 - 1
    gx = ((x[:, None] + grid * half[:, None]) / 64 - 1)[:, None, :].expand(-1, 64, -1)
    gy = ((y[:, None] + grid * half[:, None]) / 64 - 1)[:, :, None].expand(-1, -1, 64)
    return torch.nn.functional.grid_sample(m.unsqueeze(1), torch.stack([gx, gy], -1), align_corners=False)[:, 0] > 0.5


def near(a, b, most=0.35):
    """Which colours are the same for an eye: the world's jitter is 0.05."""
    return (a - b).abs().amax(1) < most


def score(mode, drawn, reference):
    """Share of pictures that keep the mode's own thing."""
    fore, wanted = foreground_of(drawn), foreground_of(reference)
    if mode == "composition":
        return float(overlap(fore, wanted).mean())
    if mode == "style":
        return float((near(background_of(drawn), background_of(reference)) & near(colour_of(drawn, fore), colour_of(reference, wanted))).float().mean())
    return float((near(colour_of(drawn, fore), colour_of(reference, wanted)) & (overlap(centred(fore), centred(wanted)) > 0.88)).float().mean())


def held_out_pairs(mode, count):
    """Pairs whose style and subject are one colour, so that a mean tells it; no landscapes."""
    rng = random.Random(f"held out {mode}")
    found = []
    while len(found) < count:
        reference, target, silent, _ = pairs.make_pair(rng, mode, 1.0, False)
        if reference["land"] or target["land"] or (mode != "composition" and (len(reference["objects"]) > 1 or len(target["objects"]) > 1)):
            continue
        found.append((reference, caption(rng, target, silent, always=True)[0].text))
    return found


def conditioning_of(conditioner, tokenizer, texts, spans=None, weight=1.0):
    framed = [frame(tokenizer, text, (0, 0) if spans is None else spans[i]) for i, text in enumerate(texts)]
    ids, length, span = (torch.tensor([f[k] for f in framed], device=conditioner.device) for k in range(3))
    return conditioner.weighted(ids, length, span, torch.full((len(texts),), weight, device=conditioner.device))


def measure(student, vae, conditioner, tokenizer, count, device, say):
    report = {}
    for mode in pairs.MODES:
        found = held_out_pairs(mode, count)
        reference = world.draw(world.pack([r for r, _ in found], device))
        with torch.no_grad():
            latents = vae.encode(reference).latent_dist.mean * vae.config.scaling_factor
        cond = conditioning_of(conditioner, tokenizer, [text for _, text in found])
        row = {}
        for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
            scale = adapter.mode_scales(student.unet, mode, strength).to(device).expand(count, -1)
            row[str(strength)] = round(score(mode, draw(student, vae, cond, latents, scale, 5), reference), 3)
        # what the other modes keep of this mode's own thing: near the score without a reference when they are different things
        others = {other: round(score(mode, draw(student, vae, cond, latents, adapter.mode_scales(student.unet, other).to(device).expand(count, -1), 5), reference), 3) for other in pairs.MODES if other != mode}
        report[mode] = {"by strength": row, "with another mode": others}
        say(mode, report[mode])
    rng = random.Random("held out weights")
    scenes = [world.make_scene(rng, False, "two", 0) for _ in range(count)]
    texts, spans = [], []
    for scene in scenes:
        for item in scene["objects"]:
            item.update(size=None, outline=False)
        while True:
            said = caption(rng, scene, {"subject"}, always=True)[0]
            if 0 in said.spans:
                break
        texts.append(said.text)
        spans.append(said.spans[0])
    colours = torch.tensor([[world.COLOURS[item["colour"]] for item in scene["objects"]] for scene in scenes], device=device) / 127.5 - 1
    areas = {}
    silence = torch.zeros(count, len(adapter.layer_names(student.unet)), device=device)
    for weight in (0.7, 1.0, 1.4):
        cond = conditioning_of(conditioner, tokenizer, texts, spans, weight)
        pictures = draw(student, vae, cond, torch.zeros(count, 4, 16, 16, device=device), silence, 6)
        areas[weight] = torch.stack([(pictures - colours[:, i, :, None, None]).abs().amax(1).lt(0.4).sum((1, 2)).float() for i in (0, 1)], 1)
    usable = (areas[1.0] > 60).all(1)
    target = {w: a[usable, 0] for w, a in areas.items()}
    other = {w: a[usable, 1] for w, a in areas.items()}
    report["weights"] = {"pairs": int(usable.sum()), "1.4 enlarges": round(float((target[1.4] > target[1.0]).float().mean()), 3), "0.7 shrinks": round(float((target[0.7] < target[1.0]).float().mean()), 3),
                         "mean area": {str(w): round(float(a.mean()), 1) for w, a in target.items()}, "other's mean area": {str(w): round(float(a.mean()), 1) for w, a in other.items()}}
    say("weights", report["weights"])
    return report
