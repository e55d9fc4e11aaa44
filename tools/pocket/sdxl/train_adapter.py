"""Teaches the pocket SDXL references (tools/pocket/sdxl/adapter.py) and what prompt weights mean, on one GPU, in the time it is given.

    python tools/pocket/sdxl/recover.py --out build/sdxl-base          # the shipped graphs as a diffusers folder
    python tools/pocket/sdxl/train_adapter.py --base build/sdxl-base --out DIR --seconds 330
    python tools/export/sdxl.py --model build/sdxl-base --adapter DIR --out models/pocket/sdxl --fp16-stored --check

Text encoders and VAE stay as they are; the UNet is tuned with the adapter, half of the samples without a reference.
`--seconds` counts from the program's start to the end of training; the measure afterwards takes about half a minute.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))
import adapter  # noqa: E402
import pairs  # noqa: E402
import world  # noqa: E402
from adapter_measure import measure  # noqa: E402
from conditioning import Conditioner, frame_caption  # noqa: E402
from schedule import Ema, cosine, say, started  # noqa: E402

import torch  # noqa: E402
from torch import nn  # noqa: E402

PLAIN = len(pairs.MODES)
DRAWN = ("obj", "land", "bg")


def make_rows(arguments):
    """Scenes with captions: plain ones, of which many have a weighted phrase, and targets with their references."""
    seed, count, plain_share, vocab = arguments
    torch.set_num_threads(1)
    rng = random.Random(seed)
    targets, references, rows = [], [], []
    for _ in range(count):
        mode, strength, silent = PLAIN, 0.0, set()
        if rng.random() < plain_share:
            target = world.make_scene(rng, kind=rng.choices(["one", "two", "several", "landscape"], [0.3, 0.4, 0.14, 0.16])[0], weighted=0.5)
            reference = target
        else:
            mode = rng.choices(range(PLAIN), [0.35, 0.25, 0.4])[0]
            reference, target, silent, strength = pairs.make_pair(rng, pairs.MODES[mode])
        special = next((k for k, w in enumerate(target["weights"]) if w != 1), None)
        while True:
            words, spans = world.caption(rng, target, silent)
            if special is None or spans[special][1] > 0:
                break
        span = (0, 0)
        if special is not None:
            # the whole phrase, or its noun alone
            span = spans[special] if rng.random() < 0.6 else (spans[special][1] - 1, spans[special][1])
        if mode != PLAIN and rng.random() < 0.05:
            words = []
        rows.append((*frame_caption(words, span, vocab), 1.0 if special is None else target["weights"][special], mode, strength))
        targets.append(target)
        references.append(reference)
    ids, length, spans, weight, mode, strength = zip(*rows)
    packed, beside = world.pack(targets, "cpu"), world.pack(references, "cpu")
    return {**packed, **{f"reference_{k}": beside[k] for k in DRAWN}, "ids": torch.tensor(ids, dtype=torch.int16), "length": torch.tensor(length), "span": torch.tensor(spans),
            "weight": torch.tensor(weight), "mode": torch.tensor(mode), "strength": torch.tensor(strength)}


@torch.no_grad()
def encode_pictures(vae, data, prefix, device):
    """Mean and deviation of the scaled latents, fp16 [N, 8, 16, 16]; zeros where a row has no reference."""
    count = data["bg"].shape[0]
    latents = torch.zeros(count, 8, 16, 16, dtype=torch.float16, device=device)
    wanted = torch.arange(count, device=device) if prefix == "" else (data["mode"] < PLAIN).nonzero().flatten()
    for rows in wanted.split(512):
        with torch.autocast(device, torch.bfloat16):
            moments = vae.encode(world.draw({k: data[prefix + k][rows] for k in DRAWN}).to(memory_format=torch.channels_last)).latent_dist
        latents[rows] = (torch.cat([moments.mean, moments.std], 1).float() * vae.config.scaling_factor).half()
    return latents


class Student(nn.Module):
    """UNet and reference tokens as one module, so that they are compiled together."""

    def __init__(self, unet, tokens):
        super().__init__()
        self.unet, self.tokens = unet, tokens

    def forward(self, noisy, t, embeds, pooled, time_ids, reference, scale):
        return self.unet(noisy, t, encoder_hidden_states=embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
                         cross_attention_kwargs=adapter.picture_arguments(self.tokens(reference), scale, noisy), return_dict=False)[0]


class Trainer:
    def __init__(self, unet, tokens, batch, rates, device):
        self.student = Student(unet, tokens).to(device)
        self.student.unet.to(memory_format=torch.channels_last)
        self.batch, self.device, self.rates = batch, device, rates
        fresh = [p for name, p in self.student.named_parameters() if "_ip." in name or name.startswith("tokens.")]
        known = [p for name, p in self.student.named_parameters() if not ("_ip." in name or name.startswith("tokens."))]
        self.optimiser = torch.optim.AdamW([{"params": known}, {"params": fresh}], lr=1e-6, betas=(0.9, 0.99), weight_decay=0.01, fused=device == "cuda")
        self.ema = Ema([self.student], 0.999)
        self.bars = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=device) ** 2, 0)
        self.time_ids = torch.tensor([[128, 128, 0, 0, 128, 128]], device=device, dtype=torch.float32).expand(batch, 6).contiguous()
        self.run = torch.compile(self.student) if device == "cuda" else self.student

    def step(self, clean, embeds, pooled, reference, scale, share, count):
        """One step of min-SNR-5 weighted noise prediction; returns the loss per sample."""
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = rate * cosine(share, count, 100)
        t = torch.randint(0, 1000, (self.batch,), device=self.device)
        bar = self.bars[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = (bar.sqrt() * clean + (1 - bar).sqrt() * noise).to(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16):
            output = self.run(noisy, t, embeds.bfloat16(), pooled.float(), self.time_ids, reference, scale)
        snr = self.bars[t] / (1 - self.bars[t])
        losses = (output.float() - noise).square().mean((1, 2, 3)) * (snr.clamp(max=5) / snr)
        self.optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimiser.step()
        self.ema.update()
        return losses.detach()

    def warm_up(self):
        """Compiles on random data at a learning rate of nearly nothing; the weights and their mean are put back."""
        kept = [p.detach().clone() for p in self.student.parameters()]
        draw = lambda *shape: torch.randn(self.batch, *shape, device=self.device)
        for _ in range(3):
            self.step(draw(4, 16, 16), draw(77, 320).half(), draw(192).half(), draw(4, 16, 16), draw(len(adapter.layer_names(self.student.unet))), 1.0, 0)
        with torch.no_grad():
            for p, m, k in zip(self.student.parameters(), self.ema.mean, kept):
                p.copy_(k)
                m.copy_(k)
        self.ema.count = 0
        self.optimiser.state.clear()


def train(trainer, data, latents, references, embeds, pooled, empty, until, device):
    begun, count, batch = time.time(), 0, trainer.batch
    unet = trainer.student.unet
    table = torch.stack([adapter.mode_scales(unet, mode) for mode in [*pairs.MODES, "none"]]).to(device)
    sums, seen = torch.zeros(PLAIN + 1, device=device), torch.zeros(PLAIN + 1, device=device)
    while (share := (time.time() - begun) / max(until - begun, 1)) < 1 or count == 0:
        rows = torch.randint(0, data["bg"].shape[0], (batch,), device=device)
        moments = latents[rows].float()
        clean = moments[:, :4] + moments[:, 4:] * torch.randn_like(moments[:, 4:])
        mode = data["mode"][rows]
        scale = table[mode] * data["strength"][rows].view(-1, 1)
        text, whole = embeds[rows], pooled[rows]
        # no prompt at all: zeros, or the empty text encoded; a silent caption without its reference keeps the plain model in its place
        drop = torch.rand(batch, device=device)
        plain = mode == PLAIN
        zeros, blank = drop < 0.05, (drop >= 0.05) & (drop < 0.08) & plain
        text = torch.where(zeros.view(-1, 1, 1), torch.zeros_like(text), torch.where(blank.view(-1, 1, 1), empty[0].expand_as(text), text))
        whole = torch.where((zeros | (drop > 0.9)).view(-1, 1), torch.zeros_like(whole), torch.where(blank.view(-1, 1), empty[1].expand_as(whole), whole))
        losses = trainer.step(clean, text, whole, references[rows, :4].float(), scale, share, count)
        sums.scatter_add_(0, mode, losses)
        seen.scatter_add_(0, mode, torch.ones_like(losses))
        count += 1
        if count % 200 == 0:
            say("step", count, f"{count * batch / 1e6:.2f} M samples, loss", dict(zip([*pairs.MODES, "plain"], (round(float(v), 4) for v in sums / seen))))
            sums.zero_()
            seen.zero_()
    trainer.ema.swap()
    return count


def save(student, out, report):
    """fp16 weights in two files of equal size, the layer tables, the measure."""
    from safetensors.torch import save_file

    weights = {name.replace("tokens.", "reference_tokens.", 1) if name.startswith("tokens.") else name: value.detach().half().contiguous().cpu() for name, value in student.state_dict().items()}
    parts, sizes = ({}, {}), [0, 0]
    for name, value in sorted(weights.items(), key=lambda entry: -entry[1].numel()):
        i = sizes.index(min(sizes))
        parts[i][name] = value
        sizes[i] += value.numel()
    for i, part in enumerate(parts):
        save_file(part, out / f"weights-{i}.safetensors")
    (out / "adapter.json").write_text(json.dumps(adapter.layer_tables(student.unet), indent=1) + "\n")
    (out / "measure.json").write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="diffusers folder of the pocket SDXL (recover.py)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", type=Path, help="a folder this script wrote: go on from its weights")
    parser.add_argument("--seconds", type=float, default=330)
    parser.add_argument("--rows", type=int, default=160_000)
    parser.add_argument("--plain", type=float, default=0.45, help="share of samples without a reference")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--unet-rate", type=float, default=3e-4)
    parser.add_argument("--adapter-rate", type=float, default=1.2e-3)
    parser.add_argument("--seed", type=int, default=700_000)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--measured", type=int, default=100, help="pairs a mode in the measure at the end")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    vocab = json.loads((options.base / "tokenizer/vocab.json").read_text())
    pool = multiprocessing.get_context("fork").Pool(options.workers)
    share = options.rows // options.workers
    pending = pool.map_async(make_rows, [(seed, share, options.plain, vocab) for seed in range(options.seed, options.seed + options.workers)])

    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(options.base / "unet", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(options.base / "vae", torch_dtype=torch.float32).to(device, memory_format=torch.channels_last).eval()
    conditioner = Conditioner(options.base, vocab, device)
    adapter.install_pocket(unet)
    tokens = adapter.ReferenceTokens(unet.config.cross_attention_dim)
    if options.resume:
        weights = adapter.load_weights(options.resume)
        # a layer that attended and now takes what lies on its place begins anew
        changed = [name.removesuffix("to_k_ip.weight") for name in weights["unet"] if name.endswith("to_k_ip.weight") and name not in unet.state_dict()]
        weights["unet"] = {name: value for name, value in weights["unet"].items() if not name.startswith(tuple(changed) or ("-",))}
        say("resumed without", unet.load_state_dict(weights["unet"], strict=False), tokens.load_state_dict(weights["reference_tokens"], strict=False))
    trainer = Trainer(unet, tokens, options.batch, (options.unet_rate, options.adapter_rate), device)
    say("parameters", {"unet": sum(p.numel() for p in unet.parameters()), "reference tokens": sum(p.numel() for p in tokens.parameters())})
    trainer.warm_up()
    say("compiled")
    parts = pending.get()
    pool.close()
    data = {k: torch.cat([p[k] for p in parts]).to(device) for k in parts[0]}
    say("rows", data["bg"].shape[0], "mean tokens", float(data["length"].float().mean()))
    latents, references = encode_pictures(vae, data, "", device), encode_pictures(vae, data, "reference_", device)
    say("encoded pictures")
    embeds, pooled = conditioner.encode_all(data)
    empty = conditioner.empty()
    say("encoded captions")
    say("steps", train(trainer, data, latents, references, embeds, pooled, [e.half() for e in empty], started + options.seconds, device))
    report = {}
    try:
        trainer.student.eval()
        report = measure(trainer.student, vae, conditioner, options.measured, device, say)
    finally:
        save(trainer.student, options.out, report)
        say("saved", options.out)


if __name__ == "__main__":
    main()
