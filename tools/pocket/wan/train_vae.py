"""Trains the pocket WAN's causal VAE from nothing on one GPU, in the time it is given, and says what it keeps of true clips.

    python tools/pocket/wan/train_vae.py --seconds 540 --out DIR
    torchrun --nproc-per-node 2 tools/pocket/wan/train_vae.py --scale 0.5 --seconds 540 --out DIR      # the same batches shared by two GPUs

Gate for the next step (train_transformer.py): true clips through the VAE >= 95 % all right, >= 34 dB at frame 16.
First frames and 5-frame clips, then 17 frames, single frames and some of 33. The schedule follows elapsed time.
"""

import argparse
import math
import multiprocessing
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402
import held_out  # noqa: E402
import world  # noqa: E402
from clip_vae import ClipVae, build_vae, save_vae, to_channels_last  # noqa: E402
from training import Ema, Team, check_later, clip_gradients, cosine, say, settle  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402


def plan(share, rng, scale):
    """(frames, batch): short clips until a fifth of the time has passed, long memory from then on."""
    roll = rng.random()
    frames = (1 if roll < 0.4 else 5) if share < 0.2 else 1 if roll < 0.25 else 17 if roll < 0.92 else 33
    return frames, max(2, int({1: 256, 5: 96, 17: 32, 33: 16}[frames] * scale))


def reconstruction(decoded, clips, change=0.25):
    """Loss with edges and `change` times the changes in time, weighted up near edges, and the error; values in [-1, 1]."""
    flat = clips.flatten(0, 1)
    spread = F.max_pool2d(flat, 5, 1, 2) + F.max_pool2d(-flat, 5, 1, 2)
    weight = 1 + 2 * spread.amax(1, keepdim=True).clamp(0, 1).unflatten(0, clips.shape[:2])
    error = decoded.float() - clips
    loss = (weight * (error.abs() + 2 * error.square())).mean()
    loss = loss + 0.5 * sum(torch.diff(error, dim=d).abs().mean() for d in (3, 4))
    if clips.shape[1] > 1:
        loss = loss + change * torch.diff(error, dim=1).abs().mean()
    return loss, error.detach()


def losses(decoded, clips, mean, logvar):
    loss, error = reconstruction(decoded, clips)
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return loss + 3e-5 * kl, error


def psnr(error):
    """dB of values with a range of 2."""
    return 10 * math.log10(4 / max(1e-9, float(error.square().mean())))


@torch.no_grad()
def through(model, rows, frames, device, chunk=32):
    """uint8 clips after encoding and decoding, and dB per frame."""
    out, total = [], torch.zeros(frames, device=device)
    for part in rows.split(chunk):
        clips = world.draw(part, frames)
        with torch.autocast(device, torch.bfloat16):
            decoded = model.decode(model.encode(clips)[0]).float().clamp(-1, 1)
        total += (decoded - clips).square().mean((2, 3, 4)).sum(0)
        out.append(check.to_bytes(decoded))
    return [clip for part in out for clip in part], [round(10 * math.log10(4 / max(1e-9, float(t) / len(rows))), 1) for t in total]


@torch.no_grad()
def latent_scale(model, rows, device):
    """Mean and deviation of each latent channel over clips."""
    parts = []
    for part in rows.split(32):
        with torch.autocast(device, torch.bfloat16):
            parts.append(model.encode(world.draw(part, world.FRAMES))[0].flatten(0, 3))
    values = torch.cat(parts)
    return values.mean(0).tolist(), values.std(0).clamp(min=1e-3).tolist()


def save(vae, model, rows, folder, device):
    mean, std = latent_scale(model, rows, device)
    save_vae(vae, folder, latents_mean=mean, latents_std=std)
    return [round(s, 2) for s in std]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=540, help="for everything, from start to end")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a VAE folder this script wrote: go on from its weights")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the batch sizes")
    parser.add_argument("--scenes", type=int, default=150_000)
    parser.add_argument("--evaluations", type=int, default=4)
    parser.add_argument("--items", type=int, default=190)
    parser.add_argument("--final-seconds", type=float, default=35)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    begun = time.time()
    pool = multiprocessing.get_context("fork").Pool(options.workers)
    device, team = "cuda" if torch.cuda.is_available() else "cpu", Team()
    settle(device, team.rank)
    # a short run: trying out convolutions would take most of it
    torch.backends.cudnn.benchmark = options.resume is None
    rng = random.Random(7)
    rows = torch.tensor([world.pack(rng, world.make_scene(rng, still=rng.random() < 0.1)) for _ in range(options.scenes)]).to(device)
    items = held_out.make_items()
    clip_items, picture_items = ([i for i in items if i["kind"] == kind][: options.items] for kind in ("clip", "picture"))
    true_rows = lambda some: torch.tensor([world.pack(rng, i["scene"]) for i in some]).to(device)
    clip_rows, picture_rows = true_rows(clip_items), true_rows(picture_items)

    vae = build_vae()
    if options.resume:
        vae = type(vae).from_pretrained(options.resume, torch_dtype=torch.float32)
        vae.requires_grad_(True)
    vae.to(device).train()
    to_channels_last(vae)
    parameters = list(vae.parameters())
    team.same_weights(parameters)
    model = ClipVae(vae, compile_norms=device == "cuda")
    rate = 7e-4 if options.resume else 1.5e-3
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=device == "cuda")
    ema = Ema([vae], 0.999)
    say("ready", f"{sum(p.numel() for p in parameters) / 1e6:.2f} M parameters", len(rows), "scenes", device, "rank", team.rank)

    deadline = begun + options.seconds - options.final_seconds
    start, step, frames_seen, told, checked, pending = time.time(), 0, 0, time.time(), 0, None
    last, recent = {}, {}
    while (share := team.agree((time.time() - start) / (deadline - start))) < 1:
        frames, batch = plan(1.0 if options.resume else share, rng, options.scale)
        if options.resume and frames == 33:
            # a short run: every further length costs seconds of trying out convolutions
            frames, batch = 17, max(2, int(32 * options.scale))
        clips = world.draw(rows[torch.randint(0, len(rows), (batch,), device=device)], frames)
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(share, step, 200)
        with torch.autocast(device, torch.bfloat16):
            mean, logvar = model.encode(clips)
            decoded = model.decode(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean))
        loss, error = losses(decoded, clips, mean, logvar)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        team.mean_gradients(parameters)
        clip_gradients(parameters)
        optimiser.step()
        ema.update()
        step, frames_seen = step + 1, frames_seen + frames * batch * team.size
        last[frames] = (error, logvar.detach())
        recent[frames] = recent.get(frames, 0) + 1
        if not team.leads:
            continue
        if time.time() - told > 15 or step == 1:
            told = time.time()
            line = " ".join(f"T{f}: {psnr(e):.1f} dB (frame {e.shape[1] - 1} {psnr(e[:, -1]):.1f}) std {float(lv.mul(0.5).exp().mean()):.3f} x{recent.get(f, 0)}" for f, (e, lv) in sorted(last.items()))
            say("step", step, f"{frames_seen / max(1e-9, told - start) / 1e3:.1f} k frames/s", line)
            last, recent = {}, {}
        if pending and pending.ready():
            say("true clips through the VAE", check.summary(pending.get()))
            pending = None
        if share > (checked + 1) / (options.evaluations + 1):
            checked += 1
            with ema:
                clips_out, decibels = through(model, clip_rows[:64], world.FRAMES, device)
                save(vae, model, rows[:256], options.out, device)
            say("dB per frame", decibels)
            pending = check_later(pool, clip_items[:64], clips_out)
    team.leave()
    if not team.leads:
        return pool.terminate()
    ema.swap()
    say("steps", step, f"{frames_seen / 1e6:.2f} M frames")
    say("latent std", save(vae, model, rows[:2048], options.out, device))
    clips_out, decibels = through(model, clip_rows, world.FRAMES, device)
    pictures_out, picture_decibels = through(model, picture_rows, 1, device)
    say("dB per frame", decibels, "pictures", picture_decibels)
    clip_check, picture_check = check_later(pool, clip_items, clips_out), check_later(pool, picture_items, pictures_out)
    say("33 frames, dB at 0, 8, 16, 24, 32", through(model, clip_rows[:64], 33, device)[1][::8])
    say("TRUE CLIPS THROUGH THE VAE", len(clip_items), check.summary(clip_check.get()))
    say("true pictures through the VAE", len(picture_items), check.summary(picture_check.get()))
    by = {}
    for item, wrong in zip(clip_items, clip_check.get()):
        for key in (item["motion"], item["shape"], item["colour"]):
            right, count = by.get(key, (0, 0))
            by[key] = (right + (not set(wrong) - {"speed"}), count + 1)
    say("by motion, shape, colour", {k: f"{a}/{b}" for k, (a, b) in sorted(by.items())})
    pool.terminate()
    say("saved", options.out)


if __name__ == "__main__":
    main()
