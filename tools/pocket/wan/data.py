"""Scenes with their captions as tensors, made by several processes, and their latents, made once on the device."""

import random
import time

import torch

import world
from captions import caption, labels_of
from text import encode_texts, load_tokenizer
from training import say

CAPTIONS = 4


def hard_scene(rng, picture):
    """A scene of what is learnt last: thin points and bent paths."""
    while True:
        scene = world.make_scene(rng, still=picture)
        if scene["shape"] == "star" or scene["motion"] == "orbit":
            return scene


def make_part(arguments):
    """(seed, count, picture, hard, folder) -> rows [n, FIELDS], ids [n, 4, 64], lengths [n, 4], labels [n, 4, questions]."""
    seed, count, picture, hard, folder = arguments
    torch.set_num_threads(1)
    rng = random.Random(seed)
    tokenizer = load_tokenizer(folder)
    scenes = [hard_scene(rng, picture) if rng.random() < hard else world.make_scene(rng, still=picture) for _ in range(count)]
    rows = torch.tensor([world.pack(rng, scene) for scene in scenes])
    texts = [caption(rng, scene, picture) for scene in scenes for _ in range(CAPTIONS)]
    ids, lengths = encode_texts(tokenizer, [text for text, _ in texts])
    labels = torch.tensor([labels_of(said) for _, said in texts]).view(count, CAPTIONS, -1)
    return {"rows": rows, "ids": ids.view(count, CAPTIONS, -1), "lengths": lengths.view(count, CAPTIONS), "labels": labels}


def begin_set(pool, workers, folder, seed, count, picture=False, hard=0.0):
    share = max(1, count // workers)
    return pool.map_async(make_part, [(seed + i, share, picture, hard, folder) for i in range(workers)], chunksize=1)


def join(pending, device):
    parts = pending.get()
    return {k: torch.cat([p[k] for p in parts]).to(device) for k in parts[0]}


@torch.no_grad()
def encode_set(model, data, frames, mean, std, device, chunk, seconds):
    """Adds normalised latents [n, z, F, h, w] (fp16) and those of the last frame shown as a still 5-frame clip; ends `seconds` after the first chunk."""
    begun, latents, stills = None, [], []

    def encode(clips):
        with torch.autocast(device, torch.bfloat16):
            found = model.encode(clips)[0]
        return ((found - mean) / std).permute(0, 4, 1, 2, 3).half()

    for part in data["rows"].split(chunk):
        if len(part) < chunk and latents:
            break
        clips = world.draw(part, frames)
        latents.append(encode(clips))
        if frames > 1:
            # what a last-frame reference gives the pipeline: the last latent of the still picture
            stills.append(encode(clips[:, -1:].expand(-1, 5, -1, -1, -1))[:, :, -1])
        if device == "cuda":
            torch.cuda.synchronize()
        # the first chunk pays for what every shape costs once
        begun = begun or time.time()
        if time.time() - begun > seconds:
            break
    data["latents"] = torch.cat(latents)
    data["stills"] = torch.cat(stills) if stills else None
    count = len(data["latents"])
    for key in ("rows", "ids", "lengths", "labels"):
        data[key] = data[key][:count]
    say(f"{count} of {frames} frames encoded in {time.time() - begun:.1f} s")
    return data
