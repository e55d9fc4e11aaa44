"""Goes on training the pocket WAN's VAE decoder on latents as the transformer makes them; encoder and transformer stay as they are.

    python tools/pocket/wan/train_decoder.py --model DIR --seconds 300 --out DIR

A decoder that has seen only true latents shows the transformer's small errors as jumps where one latent frame ends and the
next begins. Here half of its latents are true ones, half come out of the transformer: true latents noised to a moderate level
and denoised again with their caption, so that the true clip is still known.
"""

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402
import held_out  # noqa: E402
import world  # noqa: E402
from clip_vae import ClipVae, save_vae, to_channels_last  # noqa: E402
from data import begin_set, join  # noqa: E402
from sample import GUIDANCE, SHIFT, references  # noqa: E402
from text import embed, load_tokenizer  # noqa: E402
from train_vae import psnr, reconstruction, through  # noqa: E402
from training import Ema, check_later, clip_gradients, cosine, say, settle  # noqa: E402

import random  # noqa: E402

import torch  # noqa: E402

# how far the true latents are noised: shares of a run of 25 steps, the last ones
LEAST, MOST, STEPS = 2, 12, 25


@torch.no_grad()
def renoised(transformer, encoder, latents, stills, ids, lengths, device):
    """Latents [B, z, F, h, w] noised by 2 to 12 of 25 steps and denoised again with Euler; half have a known first frame, a quarter a known last."""
    count = len(latents)
    u = torch.linspace(1, 0, STEPS + 1, device=device)
    sigmas = SHIFT * u / (1 + (SHIFT - 1) * u)
    begin = STEPS - int(torch.randint(LEAST, MOST + 1, ()))
    silent = torch.zeros_like(ids)
    silent[:, 0] = 1
    with torch.autocast(device, torch.bfloat16):
        rows = embed(encoder, torch.cat([silent, ids]), torch.cat([torch.ones_like(lengths), lengths]))[0]
    first, last = (torch.rand(2, count, 1, 1, 1, device=device) < torch.tensor([0.5, 0.25], device=device).view(2, 1, 1, 1, 1)).unbind(0)
    x = (1 - sigmas[begin]) * latents + sigmas[begin] * torch.randn_like(latents)

    def put(x):
        x = x.clone()
        x[:, :, 0] = torch.where(first, latents[:, :, 0], x[:, :, 0])
        x[:, :, -1] = torch.where(last, stills, x[:, :, -1])
        return x

    for now, then in zip(sigmas[begin:-1], sigmas[begin + 1 :]):
        x = put(x)
        with torch.autocast(device, torch.bfloat16):
            v = transformer(hidden_states=torch.cat([x, x]), timestep=(now * 1000).expand(2 * count), encoder_hidden_states=rows, return_dict=False)[0].float()
        empty, said = v.chunk(2)
        x = x + (then - now) * (empty + GUIDANCE * (said - empty))
    return put(x)


@torch.no_grad()
def collect(parts, data, device, chunk, seconds):
    """Pairs of rows and latents out of the transformer (fp16), for `seconds`."""
    transformer, encoder, _, model, mean, std = parts
    begun, made = time.time(), []
    encode = lambda clips: ((model.encode(clips)[0] - mean) / std).permute(0, 4, 1, 2, 3)
    for start in range(0, len(data["rows"]) - chunk + 1, chunk):
        rows, ids, lengths = (data[key][start : start + chunk] for key in ("rows", "ids", "lengths"))
        clips = world.draw(rows, world.FRAMES)
        with torch.autocast(device, torch.bfloat16):
            latents, stills = encode(clips).float(), encode(clips[:, -1:].expand(-1, 5, -1, -1, -1))[:, :, -1].float()
        made.append(renoised(transformer, encoder, latents, stills, ids[:, 0], lengths[:, 0], device).half())
        if time.time() - begun > seconds:
            break
    made = torch.cat(made)
    say(len(made), "clips out of the transformer in", round(time.time() - begun, 1), "s")
    return data["rows"][: len(made)], made


def losses(decoded, clips):
    """As in train_vae.py, with the change in time weighted up and what a frame changes more than the true one once more."""
    loss, error = reconstruction(decoded, clips, change=0.5)
    if clips.shape[1] > 1:
        change = lambda video: torch.diff(video, dim=1).abs().mean((2, 3, 4))
        loss = loss + 2 * (change(decoded.float()) - change(clips)).relu().mean()
    return loss, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the folder train_transformer.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="gets the VAE's folder")
    parser.add_argument("--seconds", type=float, default=300, help="for everything, from start to end")
    parser.add_argument("--collect-seconds", type=float, default=40)
    parser.add_argument("--final-seconds", type=float, default=25)
    parser.add_argument("--scenes", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--hard", type=float, default=0.3)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--seed", type=int, default=90_000)
    parser.add_argument("--workers", type=int, default=10)
    options = parser.parse_args()
    begun = time.time()
    pool = multiprocessing.get_context("fork").Pool(options.workers)
    pending = begin_set(pool, options.workers, options.model, options.seed, options.scenes, False, options.hard)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settle(device)
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5EncoderModel

    load = lambda kind, name: kind.from_pretrained(options.model / name, torch_dtype=torch.float32).to(device).requires_grad_(False).eval()
    vae, transformer, encoder = load(AutoencoderKLWan, "vae"), load(WanTransformer3DModel, "transformer"), load(UMT5EncoderModel, "text_encoder")
    to_channels_last(vae)
    mean, std = (torch.tensor(values, device=device) for values in (vae.config.latents_mean, vae.config.latents_std))
    model = ClipVae(vae, compile_norms=device == "cuda")
    parts = (transformer, encoder, load_tokenizer(options.model), model, mean, std)
    data = join(pending, device)
    made_rows, made = collect(parts, data, device, options.chunk, options.collect_seconds)

    trained = [vae.decoder.requires_grad_(True), vae.post_quant_conv.requires_grad_(True)]
    parameters = [p for module in trained for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.0, fused=device == "cuda")
    ema = Ema(trained, 0.999)
    rng = random.Random(7)
    deadline, start, step, told, recent = begun + options.seconds - options.final_seconds, time.time(), 0, time.time(), {}
    while (share := (time.time() - start) / (deadline - start)) < 1:
        kind = rng.choices(["true", "made", "still", "long"], [0.35, 0.45, 0.15, 0.05])[0]
        frames, batch = {"still": (1, 8 * options.batch), "long": (33, options.batch // 2)}.get(kind, (world.FRAMES, options.batch))
        rows, pick = (made_rows, torch.randint(0, len(made), (batch,), device=device)) if kind == "made" else (data["rows"], torch.randint(0, len(data["rows"]), (batch,), device=device))
        clips = world.draw(rows[pick], frames)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * cosine(share, step, 200)
        with torch.autocast(device, torch.bfloat16):
            latents = made[pick].float().permute(0, 2, 3, 4, 1) * std + mean if kind == "made" else model.encode(clips)[0].detach()
            decoded = model.decode(latents)
        loss, error = losses(decoded, clips)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(parameters)
        optimiser.step()
        ema.update()
        step += 1
        recent.setdefault(kind, []).append(error.square().mean())
        if time.time() - told > 15 or step == 1:
            told = time.time()
            say("step", step, " ".join(f"{name}: {psnr(torch.stack(values).mean().sqrt()):.1f} dB x{len(values)}" for name, values in sorted(recent.items())))
            recent = {}
    ema.swap()
    save_vae(vae, options.out)
    say("saved", options.out, "after", step, "steps")
    report(parts, options, pool, device)
    pool.terminate()


def report(parts, options, pool, device):
    """True clips through the new decoder, and the jumps with each way of giving references."""
    model = parts[3]
    items = [i for i in held_out.make_items() if i["kind"] == "clip"]
    rng = random.Random(7)
    rows = torch.tensor([world.pack(rng, i["scene"]) for i in items]).to(device)
    shown, _ = through(model, rows, world.FRAMES, device)
    say("TRUE CLIPS THROUGH THE VAE", len(items), check.summary(check_later(pool, items, shown).get()))
    some = options.items
    for name, values in references(parts, items[:some], rows[:some], device, steps=options.steps).items():
        say("references", name, values)


if __name__ == "__main__":
    main()
