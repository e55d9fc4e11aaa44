"""Trains the pocket WAN's transformer and text encoder on the latents of a trained VAE, and writes a diffusers folder (fp16).

    python tools/pocket/wan/train_transformer.py --vae DIR --seconds 540 --out DIR

Flow matching on 17-frame clips, single pictures and some clips of 33 and 81 frames. A part of the clips has its first or
last latent given clean, so that references are learnt. The schedule follows elapsed time.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import check  # noqa: E402
import held_out  # noqa: E402
import world  # noqa: E402
from clip_vae import ClipVae, to_channels_last  # noqa: E402
from captions import LABELS, make_texts  # noqa: E402
from data import CAPTIONS, begin_set, encode_set, join  # noqa: E402
from sample import generate, make_scheduler, references  # noqa: E402
from text import VOCABULARY, build_text_encoder, embed, grow, load_tokenizer, save_tokenizer  # noqa: E402
from language import tokenizers  # noqa: E402
from training import Ema, check_later, clip_gradients, cosine, save_flat, say, settle  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

BATCHES = {17: 256, 1: 1024, 33: 128, 81: 48}
SHARES = {17: 0.71, 1: 0.19, 33: 0.07, 81: 0.03}


def build_transformer(z_dim):
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=4, attention_head_dim=64, in_channels=z_dim, out_channels=z_dim, text_dim=192, freq_dim=256, ffn_dim=768, num_layers=8,
                                 cross_attn_norm=True, qk_norm="rms_norm_across_heads", rope_max_seq_len=1024)


def make_batch(data, batch, device, texts_only=False):
    """Clean latents, texts and labels of random clips; a tenth has no text."""
    pick = torch.randint(0, len(data["latents"]), (batch,), device=device)
    which = torch.randint(0, CAPTIONS, (batch,), device=device)
    ids, lengths, labels = data["ids"][pick, which], data["lengths"][pick, which], data["labels"][pick, which]
    silent = torch.rand(batch, device=device) < 0.1
    ids = torch.where(silent[:, None], torch.tensor([1] + [0] * (ids.shape[1] - 1), device=device, dtype=ids.dtype), ids)
    lengths = torch.where(silent, torch.ones_like(lengths), lengths)
    labels = torch.where(silent[:, None], -100, labels)
    if texts_only:
        return None, None, ids, lengths, labels
    return data["latents"][pick].float(), None if data["stills"] is None else data["stills"][pick].float(), ids, lengths, labels


def noise_levels(batch, device, shift):
    """60 % logit-normal, 40 % uniform, then Wan's shift."""
    t = torch.where(torch.rand(batch, device=device) < 0.6, torch.sigmoid(torch.randn(batch, device=device)), torch.rand(batch, device=device))
    return shift * t / (1 + (shift - 1) * t)


def give_known(noisy, clean, stills, share, device):
    """Of `share` of the clips 40 % have the first latent known, 25 % the last, 35 % both; returns the input and 1 where the loss counts."""
    roll = torch.rand(len(noisy), device=device) / share
    first, last = (roll < 0.75).view(-1, 1, 1, 1), ((roll >= 0.4) & (roll < 1)).view(-1, 1, 1, 1)
    counts = torch.ones(len(noisy), 1, noisy.shape[2], 1, 1, device=device)
    counts[:, :, 0] = counts[:, :, 0].masked_fill(first, 0)
    counts[:, :, -1] = counts[:, :, -1].masked_fill(last, 0)
    front, back = torch.where(first, clean[:, :, 0], noisy[:, :, 0]), torch.where(last, stills, noisy[:, :, -1])
    return torch.cat([front[:, :, None], noisy[:, :, 1:-1], back[:, :, None]], dim=2), counts


class Trainer:
    def __init__(self, transformer, encoder, rate, known, device):
        self.transformer, self.encoder, self.device, self.rate, self.known = transformer, encoder, device, rate, known
        self.heads = nn.ModuleList([nn.Linear(encoder.config.d_model, len(values) + 1) for values in LABELS.values()]).to(device)
        modules = [transformer, encoder, self.heads]
        self.parameters = [p for m in modules for p in m.parameters()]
        groups = [{"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": 0.01}, {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=device == "cuda")
        self.ema = Ema([transformer, encoder], 0.9995)

    def told(self, rows, mask, labels):
        """Cross-entropy of what the text says, read from the mean of its rows, and the share of texts with every answer right: wakes the encoder up early."""
        mean = rows.float().sum(1) / mask.sum(1, keepdim=True)
        answers = [head(mean) for head in self.heads]
        right = torch.stack([(answer.argmax(-1) == labels[:, i]) | (labels[:, i] < 0) for i, answer in enumerate(answers)], 1).all(1)
        # a batch without anything to answer has no mean
        losses = [F.cross_entropy(answer, labels[:, i], ignore_index=-100, reduction="sum") / (labels[:, i] >= 0).sum().clamp(min=1) for i, answer in enumerate(answers)]
        return sum(losses), right.float().mean()

    def pretrain(self, sets, seconds, batch):
        """Text alone."""
        optimiser = torch.optim.AdamW([*self.encoder.parameters(), *self.heads.parameters()], lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=self.device == "cuda")
        begun, step = time.time(), 0
        while (share := (time.time() - begun) / seconds) < 1:
            for group in optimiser.param_groups:
                group["lr"] = 2e-3 * cosine(share, step, 50)
            _, _, ids, lengths, labels = make_batch(sets[17 if step % 4 else 1], batch, self.device, texts_only=True)
            with torch.autocast(self.device, torch.bfloat16):
                loss, right = self.told(*embed(self.encoder, ids, lengths), labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            clip_gradients([*self.encoder.parameters(), *self.heads.parameters()])
            optimiser.step()
            step += 1
            if step % 200 == 0:
                say("text", step, f"loss {float(loss):.4f}, all answers right {float(right):.3f}")

    def step(self, data, frames, batch, factor):
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        device = self.device
        clean, stills, ids, lengths, labels = make_batch(data, batch, device)
        t = noise_levels(batch, device, 2.0 if frames == 1 else 3.0)
        noise = torch.randn_like(clean)
        share = t.view(-1, 1, 1, 1, 1)
        noisy, counts = (1 - share) * clean + share * noise, torch.ones((), device=device)
        if frames > 1:
            noisy, counts = give_known(noisy, clean, stills, self.known, device)
        with torch.autocast(device, torch.bfloat16):
            rows, mask = embed(self.encoder, ids, lengths)
            output = self.transformer(hidden_states=noisy, timestep=t * 1000, encoder_hidden_states=rows, return_dict=False)[0]
        error = (output.float() - (noise - clean)).square() * counts
        loss = error.mean()
        said = self.told(rows, mask, labels)[0]
        self.optimiser.zero_grad(set_to_none=True)
        (loss + 0.05 * said).backward()
        clip_gradients(self.parameters)
        self.optimiser.step()
        self.ema.update()
        return loss.detach()


def save(out, transformer, encoder, vae_folder, definition):
    for name, module in (("transformer", transformer), ("text_encoder", encoder)):
        copy = type(module)(module.config) if name == "text_encoder" else type(module).from_config(module.config)
        copy.load_state_dict({k: v.detach().cpu() for k, v in module.state_dict().items()})
        copy.half().save_pretrained(out / name)
    make_scheduler().save_pretrained(out / "scheduler")
    save_tokenizer(out / "tokenizer", definition)
    if vae_folder.resolve() != (out / "vae").resolve():
        shutil.copytree(vae_folder, out / "vae", dirs_exist_ok=True)
    entry = {"_class_name": "WanPipeline", "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
             "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"]}
    (out / "model_index.json").write_text(json.dumps(entry, indent=1) + "\n")


def load_vae(folder, device):
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32).to(device).requires_grad_(False).eval()
    to_channels_last(vae)
    at = lambda values: torch.tensor(values, device=device)
    # clips are encoded once, a few seconds long: compiling or trying out convolutions would take longer
    torch.backends.cudnn.benchmark = False
    return ClipVae(vae), at(vae.config.latents_mean), at(vae.config.latents_std)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True, help="the folder train_vae.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="for everything, from start to end")
    parser.add_argument("--resume", type=Path, help="a folder this script wrote: go on from its weights, with new scenes")
    parser.add_argument("--clips", type=int, default=120_000)
    parser.add_argument("--encode-seconds", type=float, default=60)
    parser.add_argument("--final-seconds", type=float, default=40)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the batch sizes")
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--evaluations", type=int, default=4)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--text-seconds", type=float, default=0, help="the text encoder alone, on what captions state, before the rest")
    parser.add_argument("--tokenizer", choices=["train", "keep"], default="train", help="keep: the one of --resume")
    parser.add_argument("--structures", type=Path, help="prompts with what they state, JSON lines")
    parser.add_argument("--flat", action="store_true", help="also write all weights as wan-*.safetensors of equal size")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--hard", type=float, default=0.0, help="share of the scenes that must show a star or an orbit: for a second run")
    parser.add_argument("--known", type=float, default=0.2, help="share of the clips whose first or last latent, or both, are given clean")
    parser.add_argument("--workers", type=int, default=12)
    return parser.parse_args()


def main():
    options = parse()
    begun = time.time()
    pool = multiprocessing.get_context("fork").Pool(options.workers)
    counts = {17: options.clips, 1: options.clips, 33: options.clips // 12, 81: options.clips // 40}
    options.out.mkdir(parents=True, exist_ok=True)
    if options.tokenizer == "train":
        definition = tokenizers.train_unigram([t for part in pool.starmap(make_texts, [(options.seed + i, 60_000 // options.workers) for i in range(options.workers)]) for t in part], VOCABULARY)
    else:
        definition = (options.resume / "tokenizer/tokenizer.json").read_text().rstrip("\n")
    save_tokenizer(options.out / "tokenizer", definition)
    pending_sets = {frames: begin_set(pool, options.workers, options.out, options.seed + 100 * i, count, frames == 1, options.hard) for i, (frames, count) in enumerate(counts.items())}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settle(device)
    model, mean, std = load_vae(options.vae, device)
    tokenizer = load_tokenizer(options.out)
    rng = random.Random(7)
    items = held_out.make_items()
    clip_items = [i for i in items if i["kind"] != "picture"]
    clip_items = (clip_items[:: max(1, len(clip_items) // options.items)] if options.items < len(clip_items) else clip_items)[: options.items]
    picture_items = [i for i in items if i["kind"] == "picture"][: options.items]
    sets = {}
    for frames, weight in ((17, 0.7), (33, 0.12), (81, 0.1), (1, 0.08)):
        sets[frames] = encode_set(model, join(pending_sets[frames], device), frames, mean, std, device, max(1, options.chunk * 17 // frames // (1 if frames > 1 else 4)), options.encode_seconds * weight)

    transformer, encoder = build_transformer(len(mean)), build_text_encoder(tokenizer.get_vocab_size())
    if options.resume:
        transformer = type(transformer).from_pretrained(options.resume / "transformer", torch_dtype=torch.float32)
        known = json.loads((options.resume / "tokenizer/tokenizer.json").read_text())["model"]["vocab"]
        encoder = grow(type(encoder).from_pretrained(options.resume / "text_encoder", torch_dtype=torch.float32), {token: i for i, (token, _) in enumerate(known)}, tokenizer.get_vocab())
    for module in (transformer, encoder):
        module.to(device).train().requires_grad_(True)
    # the residual stream stays in float32 under autocast
    transformer.patch_embedding.register_forward_hook(lambda module, given, output: output.float())
    if device == "cuda":
        for block in transformer.blocks:
            block.compile(dynamic=False)
    trainer = Trainer(transformer, encoder, options.rate, options.known, device)
    parts = (transformer, encoder, tokenizer, model, mean, std)
    say("parameters", {name: round(sum(p.numel() for p in m.parameters()) / 1e6, 2) for name, m in (("transformer", transformer), ("text", encoder))}, "mean tokens", round(float(sets[17]["lengths"].float().mean()), 1))

    if options.text_seconds:
        trainer.pretrain(sets, options.text_seconds, 2048 if device == "cuda" else 8)
        trainer.ema = Ema([transformer, encoder], 0.9993)
    deadline = begun + options.seconds - options.final_seconds
    start, step, told, told_step, checked, pending, losses = time.time(), 0, time.time(), 0, 0, None, {}
    while (now := time.time()) < deadline:
        share = (now - start) / (deadline - start)
        frames = rng.choices(list(SHARES), list(SHARES.values()))[0]
        loss = trainer.step(sets[frames], frames, max(2, int(BATCHES[frames] * options.scale)), cosine(share, step, 300))
        losses.setdefault(frames, []).append(loss)
        step += 1
        if now - told > 20 or step == 1:
            line = " ".join(f"T{f}: {float(torch.stack(values).mean()):.4f} x{len(values)}" for f, values in sorted(losses.items()))
            say("step", step, f"{(step - told_step) / (time.time() - told):.1f} steps/s", line)
            told, told_step, losses = time.time(), step, {}
        if pending and pending.ready():
            say("held-out clips", check.summary(pending.get()))
            pending = None
        if share > (checked + 1) / (options.evaluations + 1):
            checked += 1
            some = clip_items[:: max(1, len(clip_items) // 64)][:64]
            with trainer.ema, torch.compiler.set_stance("force_eager"):
                made = generate(parts, [i["prompt"] for i in some], 5, 15, device)
                save(options.out, transformer, encoder, options.vae, definition)
            pending = check_later(pool, some, made)
            say("evaluated at", step)
    trainer.ema.swap()
    save(options.out, transformer, encoder, options.vae, definition)
    if options.flat:
        parts = {"transformer": transformer, "text_encoder": encoder, "vae": model.vae}
        save_flat({f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}, options.out, "wan", 2)
    say("saved", options.out, "after", step, "steps")
    report(parts, pool, clip_items, picture_items, options, device, rng, begun)
    pool.terminate()


def report(parts, pool, clip_items, picture_items, options, device, rng, begun):
    """The scores the README will state, as far as the time allows; the weights are saved already."""
    with torch.compiler.set_stance("force_eager"):
        found = {}
        sets = {"old list": json.loads(Path("test/fixtures/pocket-wan.json").read_text())}
        if options.structures and options.structures.exists():
            sets["structures"] = [i for i in (json.loads(line) for line in options.structures.read_text().splitlines() if line.strip()) if i.get("media") == "clip"]
        for name, items in sets.items():
            items = [{"background": "white", **i} for i in items if i["kind"] in ("clip", "day to night")][: options.items]
            wrongs = check_later(pool, items, generate(parts, [i["prompt"] for i in items], 5, 15, device)).get()
            found[name] = check.summary(wrongs)
            say(name, len(items), found[name])
            if name == "structures":
                by = {}
                for item, wrong in zip(items, wrongs):
                    by.setdefault(str(item.get("structure")), []).append(wrong)
                found["by structure"] = {k: [sum(not set(w) - {"speed"} for w in v), len(v), sorted({x for w in v for x in w})] for k, v in by.items()}
        (options.out / "wan-measure.json").write_text(json.dumps(found, indent=1) + "\n")
        clips = check_later(pool, clip_items, generate(parts, [i["prompt"] for i in clip_items], 5, options.steps, device))
        pictures = check_later(pool, picture_items, generate(parts, [i["prompt"] for i in picture_items], 1, options.steps, device))
        say("HELD-OUT CLIPS", len(clip_items), check.summary(clips.get()))
        say("HELD-OUT PICTURES", len(picture_items), check.summary(pictures.get()))
        found["wrong"] = [{"prompt": i["prompt"], "wrong": w} for i, w in zip(clip_items, clips.get()) if w][:80]
        (options.out / "wan-measure.json").write_text(json.dumps(found, indent=1) + "\n")
        by = {}
        for item, wrong in zip(clip_items, clips.get()):
            for key in (item.get("motion") or item["kind"], item.get("shape"), item.get("colour")):
                right, count = by.get(key, (0, 0))
                by[key] = (right + (not set(wrong) - {"speed"}), count + 1)
        say("by motion, shape, colour", {k: f"{a}/{b}" for k, (a, b) in by.items()})
        some = [i for i in clip_items if i["kind"] == "clip"][:50]
        if time.time() - begun < options.seconds - 15:
            rows = torch.tensor([world.pack(rng, i["scene"]) for i in some]).to(device)
            for name, values in references(parts, some, rows, device, steps=15).items():
                say("references", name, values)
        if time.time() - begun < options.seconds - 12:
            longer = check_later(pool, clip_items[:40], generate(parts, [i["prompt"] for i in clip_items[:40]], 9, 15, device, chunk=40))
            say("33 frames", check.summary(longer.get()))


if __name__ == "__main__":
    main()
