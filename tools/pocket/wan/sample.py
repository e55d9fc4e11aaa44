"""Sampling while training: UniPC on the flow, guidance, and known first and last latents fed clean."""

import numpy
import torch

import check
import world
from text import embed, encode_texts

GUIDANCE, SHIFT = 5.0, 5.0


def make_scheduler():
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)


def put_known(x, known):
    for at, latent in known.items():
        x[:, :, at] = latent
    return x


@torch.no_grad()
def sample(transformer, encoder, tokenizer, prompts, latent_frames, steps, device, known=None, seed=0):
    """Normalised latents [B, z, F, 16, 16]. `known`: frame index (0 or -1) -> clean latents [B, z, 16, 16], overwritten at every step."""
    known = known or {}
    ids, lengths = encode_texts(tokenizer, [""] * len(prompts) + prompts)
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.randn(len(prompts), transformer.config.in_channels, latent_frames, 16, 16, generator=generator).to(device)
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    with torch.autocast(device, torch.bfloat16):
        rows = embed(encoder, ids.to(device), lengths.to(device))[0]
    for t in scheduler.timesteps:
        x = put_known(x, known)
        with torch.autocast(device, torch.bfloat16):
            v = transformer(hidden_states=torch.cat([x, x]), timestep=t.to(device).expand(2 * len(prompts)), encoder_hidden_states=rows, return_dict=False)[0].float()
        empty, said = v.chunk(2)
        x = scheduler.step((empty + GUIDANCE * (said - empty)).cpu(), t, x.cpu(), return_dict=False)[0].to(device)
    return put_known(x, known)


@torch.no_grad()
def to_frames(model, latents, mean, std, device):
    """Normalised latents -> clips [B, T, 3, 64, 64] clamped to [-1, 1]."""
    with torch.autocast(device, torch.bfloat16):
        return model.decode(latents.permute(0, 2, 3, 4, 1).float() * std + mean).float().clamp(-1, 1)


@torch.no_grad()
def generate(parts, prompts, latent_frames, steps, device, known=None, chunk=100):
    """uint8 clips for the prompts; `parts`: transformer, encoder, tokenizer, vae model, mean, std."""
    transformer, encoder, tokenizer, model, mean, std = parts
    out = []
    for start in range(0, len(prompts), chunk):
        some = {at: latent[start : start + chunk] for at, latent in (known or {}).items()}
        latents = sample(transformer, encoder, tokenizer, prompts[start : start + chunk], latent_frames, steps, device, some, seed=start)
        out += [check.to_bytes(to_frames(model, part, mean, std, device)) for part in latents.split(25)]
    return [clip for part in out for clip in part]


@torch.no_grad()
def references(parts, items, rows, device, steps=25):
    """Median dB at the first and last frame, and the mean largest jump, for each way of giving references."""
    model, mean, std = parts[3:]
    clips = world.draw(rows, world.FRAMES)

    def encode(some):
        with torch.autocast(device, torch.bfloat16):
            found = model.encode(some)[0]
        return ((found - mean) / std).permute(0, 4, 1, 2, 3)

    whole = encode(clips)
    still = encode(clips[:, -1:].expand(-1, 5, -1, -1, -1))[:, :, -1]
    true = torch.from_numpy(check.to_bytes(clips).astype("float32"))

    def measure(made):
        made = torch.from_numpy(made.astype("float32"))
        decibels = 10 * torch.log10(255**2 / (made - true).square().mean((2, 3, 4)).clamp(min=1e-3))
        jump = made.diff(dim=1).abs().mean((2, 3, 4)).amax(1).mean()
        return {"first": round(float(decibels[:, 0].median()), 1), "last": round(float(decibels[:, -1].median()), 1), "jump": round(float(jump), 2)}

    found = {"true clips through the VAE": measure(check.to_bytes(to_frames(model, whole, mean, std, device)))}
    prompts = [item["prompt"] for item in items]
    for name, known in (("none", {}), ("first", {0: whole[:, :, 0]}), ("last", {-1: still}), ("both", {0: whole[:, :, 0], -1: still})):
        found[name] = measure(numpy.stack(generate(parts, prompts, whole.shape[2], steps, device, known)))
    return found
