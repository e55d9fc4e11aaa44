"""Trains the pocket SDXL with its reference adapter on one GPU, in the time it is given: from a trained one, or from nothing.

    python tools/pocket/recover.py sdxl --out build/sdxl-base                                       # the shipped graphs
    python tools/pocket/sdxl/train.py --base build/sdxl-base --out DIR --seconds 560                # without --base: from nothing
    python tools/pocket/assemble.py sdxl --weights DIR --base build/sdxl-base --out build/sdxl-next # its flat weights as a folder, for a next run and for the exporter
    python tools/export/sdxl.py --model build/sdxl-next --adapter build/sdxl-next/adapter --out models/pocket/sdxl --fp16-stored --check

VAE first (--vae-seconds), then the text encoders alone on what captions state, then everything but the VAE together: UNet, text encoders, adapter. A new tokenizer is trained
unless the base's is kept (--tokenizer keep). `--seconds` is for everything, from the program's start to its end.
"""

import argparse
import json
import math
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))
import adapter  # noqa: E402
import captions  # noqa: E402
import check  # noqa: E402
import pairs  # noqa: E402
import world  # noqa: E402
from adapter_measure import draw, measure  # noqa: E402
from conditioning import WINDOW, Conditioner  # noqa: E402
from language import tokenizers  # noqa: E402
from schedule import Ema, cosine, save_flat, say, started  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

PLAIN = len(pairs.MODES)
DRAWN = ("obj", "land", "bg")
MERGES, LAYERS = 1400, 7


def make_scenes(arguments):
    """Scenes for the VAE alone: pictures without words."""
    seed, count = arguments
    torch.set_num_threads(1)
    rng = random.Random(seed)
    return world.pack([world.make_scene(rng) for _ in range(count)], "cpu")


def make_rows(arguments):
    """Scenes with captions: plain ones, and targets with their references."""
    seed, count, many, plain_share, folder = arguments
    torch.set_num_threads(1)
    rng = random.Random(seed)
    tokenizer = tokenizers.load_clip(folder)
    targets, references, rows, texts = [], [], [], []
    for _ in range(count):
        mode, strength, silent = PLAIN, 0.0, set()
        if rng.random() < plain_share:
            target = world.make_scene(rng)
            reference = target
        else:
            mode = rng.choices(range(PLAIN), [0.35, 0.25, 0.4])[0]
            reference, target, silent, strength = pairs.make_pair(rng, pairs.MODES[mode])
        special = next((k for k, w in enumerate(target["weights"]) if w != 1), None)
        weight = 1.0 if special is None else target["weights"][special]
        texts = []
        for _ in range(many):
            while True:
                text, said = captions.caption(rng, target, silent, always=special is not None)
                span = (0, 0)
                if special is not None:
                    # the whole phrase, or its noun alone
                    span = (text.spans if rng.random() < 0.6 else text.nouns).get(special, (0, 0))
                    if span == (0, 0):
                        continue
                break
            empty = mode != PLAIN and rng.random() < 0.05
            ids, length, span = captions.frame(tokenizer, "" if empty else text.text, (0, 0) if empty else span)
            texts.append((ids, length, span, captions.labels_of(None if empty else said)))
        rows.append((*zip(*texts), weight, mode, strength))
        targets.append(target)
        references.append(reference)
    ids, length, spans, labels, weight, mode, strength = zip(*rows)
    packed, beside = world.pack(targets, "cpu"), world.pack(references, "cpu")
    short = lambda values: torch.tensor(values, dtype=torch.int16)
    return {**packed, **{f"reference_{k}": beside[k] for k in DRAWN}, "ids": short(ids), "length": short(length), "span": short(spans), "labels": short(labels),
            "weight": torch.tensor(weight), "mode": torch.tensor(mode), "strength": torch.tensor(strength)}


class Student(nn.Module):
    """UNet and reference tokens as one module, so that they are compiled together."""

    def __init__(self, unet, tokens):
        super().__init__()
        self.unet, self.tokens = unet, tokens

    def forward(self, noisy, t, embeds, pooled, time_ids, reference, scale):
        return self.unet(noisy, t, encoder_hidden_states=embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids},
                         cross_attention_kwargs=adapter.picture_arguments(self.tokens(reference), scale, noisy), return_dict=False)[0]


class Heads(nn.Module):
    """Reads what a caption states out of the rows that the UNet attends to, one query a question, and out of the pooled vector."""

    def __init__(self, width):
        super().__init__()
        questions, most = len(captions.HEADS), max(count for _, count in captions.HEADS)
        self.query = nn.Parameter(torch.randn(questions, width) * 0.1)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.answer, self.pooled = nn.Parameter(torch.randn(questions, width, most) * width**-0.5), nn.Parameter(torch.randn(questions, 192, most) * 192**-0.5)
        counts = torch.tensor([count for _, count in captions.HEADS])
        self.register_buffer("never", torch.where(torch.arange(most)[None] < counts[:, None], 0.0, -1e4), persistent=False)

    def forward(self, rows, pooled, labels):
        """Mean cross-entropy, and for each caption whether every answer is right."""
        scores = torch.einsum("qc,btc->bqt", self.query, self.key(rows)) / rows.shape[-1] ** 0.5
        seen = torch.einsum("bqt,btc->bqc", scores.softmax(-1), self.value(rows))
        found = torch.einsum("bqc,qcn->bqn", seen, self.answer).float() + self.never
        other = torch.einsum("bc,qcn->bqn", pooled, self.pooled).float() + self.never
        asked = (labels >= 0).float()
        picked = labels.clamp(min=0).unsqueeze(-1)
        error = lambda logits: -(logits.log_softmax(-1).gather(-1, picked).squeeze(-1) * asked).sum() / asked.sum().clamp(min=1)
        return error(found) + 0.3 * error(other), ((found.argmax(-1) == labels) | (labels < 0)).all(1)


def tune_vae(vae, data, seconds, device, batch, decoder_only):
    vae.to(device, memory_format=torch.channels_last).train().requires_grad_(True)
    # a kept encoder means that the UNet's latents stay what they were
    vae.encoder.requires_grad_(not decoder_only)
    vae.quant_conv.requires_grad_(not decoder_only)
    rate = 8e-4
    optimiser = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.99), fused=device == "cuda")
    ema, step = Ema([vae], 0.998), 0
    # not compiled: that would take as long as it saves
    begun, count = time.time(), data["bg"].shape[0]
    while (share := (time.time() - begun) / seconds) < 1:
        rows = torch.randint(0, count, (batch,), device=device)
        image = world.draw({k: data[k][rows] for k in DRAWN}).to(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(share, step, 100)
        with torch.autocast(device, torch.bfloat16):
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(image).latent_dist
            decoded = vae.decode(posterior.sample()).sample
        decoded = decoded.float()
        error = decoded - image
        edges = sum((torch.diff(decoded, dim=d) - torch.diff(image, dim=d)).abs().mean() for d in (2, 3))
        loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + 3e-5 * posterior.kl().float().mean() / image[0].numel() * 100
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        ema.update()
        step += 1
        if step % 300 == 0:
            error = error.detach()
            decibels = 10 * torch.log10(4 / error.square().mean((1, 2, 3)))
            say("vae", step, f"{float(decibels.mean()):.2f} dB, worst tenth {float(decibels.quantile(0.1)):.2f}; posterior std {float(posterior.std.mean()):.3f}")
    ema.swap()
    return step


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


class Text(nn.Module):
    """Both encoders with the product's arithmetic on a weighted phrase, in one piece that compiles: hundreds of small kernels cost more time than the UNet."""

    def __init__(self, conditioner, heads, lessened):
        super().__init__()
        self.first, self.second, self.heads, self.lessened = conditioner.first, conditioner.second, heads, lessened

    def rows(self, model, ids, visible):
        """(rows before the last layer, the last layer's rows); `visible` None: every token sees those before it."""
        tower = getattr(model, "text_model", model)
        heads = model.config.num_attention_heads
        split = lambda y: y.unflatten(2, (heads, -1)).transpose(1, 2)
        act = (lambda y: y * torch.sigmoid(1.702 * y)) if model.config.hidden_act == "quick_gelu" else F.gelu
        x, before = tower.embeddings.token_embedding(ids) + tower.embeddings.position_embedding.weight, None
        for layer in tower.encoder.layers:
            before, own = x, layer.self_attn
            y = layer.layer_norm1(x)
            y = F.scaled_dot_product_attention(split(own.q_proj(y)), split(own.k_proj(y)), split(own.v_proj(y)), attn_mask=visible, is_causal=visible is None)
            x = x + own.out_proj(y.transpose(1, 2).flatten(2))
            x = x + layer.mlp.fc2(act(layer.mlp.fc1(layer.layer_norm2(x))))
        return before, x

    def encode(self, ids, length, visible=None):
        padded = torch.arange(WINDOW, device=ids.device)[None] >= length[:, None]
        first, _ = self.rows(self.first, ids, visible)
        second, last = self.rows(self.second, ids.masked_fill(padded, 0), visible)
        ends = last[torch.arange(len(ids), device=ids.device), length - 1]
        return torch.cat([first, second], -1), self.second.text_projection(self.second.text_model.final_layer_norm(ends))

    def forward(self, ids, length, span, weight, labels, empty):
        """Rows and pooled vector as the UNet gets them, those of the empty text, what the heads think. `empty`: framed ids of the empty text, [1, 77]."""
        count = len(ids)
        every, all_pooled = self.encode(torch.cat([ids, empty]), torch.cat([length, torch.full_like(length[:1], 2)]))
        plain, pooled, void = every[:count], all_pooled[:count], every[count:]
        place = torch.arange(WINDOW, device=ids.device)[None]
        inside = (place >= span[:, :1]) & (place < span[:, 1:])
        factor = torch.where(inside, weight.view(-1, 1), 1.0).unsqueeze(-1).to(plain.dtype)
        rows = void + factor * (plain - void)
        # a lessened phrase is averaged with the text in which it is hidden; a fixed number of captions can have one, so that no size depends on the data
        least, less = weight.topk(self.lessened, largest=False)
        causal = torch.ones(WINDOW, WINDOW, dtype=torch.bool, device=ids.device).tril()
        visible = causal & ~inside[less][:, None, :]
        hidden, _ = self.encode(ids[less], length[less], visible.unsqueeze(1))
        share = torch.where((least < 1) & inside[less].any(1), torch.tan((1 - least.clamp(min=1e-5)) * math.pi / 2), 0.0).view(-1, 1, 1).to(plain.dtype)
        mixed = (rows[less] + share * (void + factor[less] * (hidden - void))) / (1 + share)
        rows = rows.index_copy(0, less, mixed.to(rows.dtype))
        told, right = self.heads(plain, pooled, labels)
        return rows, pooled, void, all_pooled[count:], told, right


def pretrain_text(text, data, seconds, device, batch, heads_only, rate=1.5e-3):
    """Text alone: what captions state. Encoders that know their tokenizer already stay as they are, and only the heads learn."""
    learners = list((text.heads if heads_only else text).parameters())
    optimiser = torch.optim.AdamW(learners, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=device == "cuda")
    begun, step, (count, many) = time.time(), 0, data["ids"].shape[:2]
    while (share := (time.time() - begun) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(share, step, 50)
        rows, which = torch.randint(0, count, (batch,), device=device), torch.randint(0, many, (batch,), device=device)
        with torch.autocast(device, torch.bfloat16):
            plain, pooled = text.encode(data["ids"][rows, which].long(), data["length"][rows, which].long())
            loss, right = text.heads(plain, pooled, data["labels"][rows, which].long())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learners, 1.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            say("text", step, f"loss {float(loss.detach()):.4f}, all answers right {float(right.float().mean()):.3f}")
    return step


class Trainer:
    def __init__(self, student, text, batch, rate, device):
        self.student, self.text, self.batch, self.rate, self.device = student.to(device), text, batch, rate, device
        student.unet.to(memory_format=torch.channels_last)
        self.parameters = [*student.parameters(), *text.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-6, betas=(0.9, 0.99), weight_decay=0.01, fused=device == "cuda")
        self.bars = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=device) ** 2, 0)
        self.time_ids = torch.tensor([[128, 128, 0, 0, 128, 128]], device=device, dtype=torch.float32).expand(batch, 6).contiguous()
        compiled = torch.compile if device == "cuda" else lambda module: module
        self.run, self.read = compiled(student), compiled(text)

    def step(self, clean, embeds, pooled, reference, scale, told, factor):
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * factor
        t = torch.randint(0, 1000, (self.batch,), device=self.device)
        bar = self.bars[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = (bar.sqrt() * clean + (1 - bar).sqrt() * noise).to(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16):
            output = self.run(noisy, t, embeds.bfloat16(), pooled.float(), self.time_ids, reference, scale)
        snr = self.bars[t] / (1 - self.bars[t])
        losses = (output.float() - noise).square().mean((1, 2, 3)) * (snr.clamp(max=5) / snr)
        self.optimiser.zero_grad(set_to_none=True)
        (losses.mean() + 0.05 * told).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        return losses.detach()

    def texts(self, ids, length, span, weight, labels, empty):
        with torch.autocast(self.device, torch.bfloat16):
            return self.read(ids, length, span, weight, labels, empty)

    def warm_up(self):
        """Compiles on random data; the weights are put back."""
        kept = [p.detach().clone() for p in self.parameters]
        draw = lambda *shape: torch.randn(self.batch, *shape, device=self.device)
        whole = lambda *shape: torch.ones(self.batch, *shape, device=self.device, dtype=torch.long)
        for _ in range(2):
            embeds, pooled, _, _, told, _ = self.texts(whole(WINDOW), whole() * 9, whole(2), draw(), whole(len(captions.HEADS)), whole(WINDOW)[:1])
            self.step(draw(4, 16, 16), embeds, pooled, draw(4, 16, 16), draw(len(adapter.layer_names(self.student.unet))), told, 1e-6)
        with torch.no_grad():
            for p, k in zip(self.parameters, kept):
                p.copy_(k)
        self.optimiser.state.clear()


def train(trainer, data, latents, references, empty, until, device):
    begun, count, batch = time.time(), 0, trainer.batch
    text, student = trainer.text, trainer.student
    ema = Ema([student, text], 0.9993)
    table = torch.stack([adapter.mode_scales(student.unet, mode) for mode in [*pairs.MODES, "none"]]).to(device)
    sums, seen = torch.zeros(PLAIN + 1, device=device), torch.zeros(PLAIN + 1, device=device)
    scenes, many = data["ids"].shape[:2]
    while (share := (time.time() - begun) / max(until - begun, 1)) < 1 or count == 0:
        rows, which = torch.randint(0, scenes, (batch,), device=device), torch.randint(0, many, (batch,), device=device)
        moments = latents[rows].float()
        clean = moments[:, :4] + moments[:, 4:] * torch.randn_like(moments[:, 4:])
        mode = data["mode"][rows]
        scale = table[mode] * data["strength"][rows].view(-1, 1)
        embeds, pooled, void, void_pooled, told, right = trainer.texts(data["ids"][rows, which].long(), data["length"][rows, which].long(), data["span"][rows, which].long(), data["weight"][rows],
                                                                       data["labels"][rows, which].long(), empty)
        # no prompt at all: zeros, or the empty text encoded; a silent caption without its reference keeps the plain model in its place
        drop = torch.rand(batch, device=device)
        plain = mode == PLAIN
        zeros, blank = drop < 0.05, (drop >= 0.05) & (drop < 0.08) & plain
        embeds = torch.where(zeros.view(-1, 1, 1), torch.zeros_like(embeds), torch.where(blank.view(-1, 1, 1), void.expand_as(embeds), embeds))
        pooled = torch.where((zeros | (drop > 0.9)).view(-1, 1), torch.zeros_like(pooled), torch.where(blank.view(-1, 1), void_pooled.expand_as(pooled), pooled))
        losses = trainer.step(clean, embeds, pooled, references[rows, :4].float(), scale, told, cosine(share, count, 200))
        ema.update()
        sums.scatter_add_(0, mode, losses)
        seen.scatter_add_(0, mode, torch.ones_like(losses))
        count += 1
        if count % 200 == 0:
            say("step", count, f"{count * batch / 1e6:.2f} M samples, loss", dict(zip([*pairs.MODES, "plain"], (round(float(v), 4) for v in sums / seen))), f"answers {float(right.float().mean()):.3f}")
            sums.zero_()
            seen.zero_()
    ema.swap()
    return count


def fresh_items(count, seen_only=True):
    """Prompts drawn anew, in the fields of a fixture."""
    rng = random.Random(f"fresh {seen_only}")
    items = []
    while len(items) < count:
        scene = world.make_scene(rng, False, None if seen_only else "one", 0)
        if not seen_only and not any((t["colour"], t["shape"]) in world.UNSEEN for t in scene["objects"]):
            continue
        text, said = captions.caption(rng, scene, always=True)
        objects = [{k: o.get(k) for k in ("colour", "shape", "size", "place", "outline")} for o in said["objects"] for _ in range(o.get("count") or 1)]
        items.append({"kind": scene["kind"] if seen_only else "unseen pair", "prompt": text.text, "objects": objects, "background": said.get("background"), "relation": said.get("relation"), **(said.get("land") or {})})
    return items


def score(parts, pool, items, device, say_what, conditioner, tokenizer, steps=15, guidance=6.0):
    student, vae = parts
    ids, lengths = [], []
    for item in items:
        row, length, _ = captions.frame(tokenizer, item["prompt"])
        ids.append(row)
        lengths.append(length)
    ids, lengths = torch.tensor(ids, device=device), torch.tensor(lengths, device=device)
    pictures = []
    silence = torch.zeros(1, len(adapter.layer_names(student.unet)), device=device)
    with torch.no_grad():
        for rows in torch.arange(len(items), device=device).split(250):
            cond = conditioner.encode(ids[rows], lengths[rows])
            made = draw(student, vae, cond, torch.zeros(len(rows), 4, 16, 16, device=device), silence.expand(len(rows), -1), int(rows[0]) + 3, steps, guidance)
            pictures += [p for p in ((made + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()]
    wrongs = pool.starmap(check.judge, list(zip(items, pictures)), chunksize=8)
    found = check.summary(items, wrongs)
    say(say_what, found)
    return found, wrongs, pictures


def report(parts, pool, options, device, conditioner, tokenizer):
    found = {}
    told = []
    sets = {"fresh": fresh_items(options.items), "unseen pairs": fresh_items(max(4, options.items // 6), False)}
    if options.structures and options.structures.exists():
        lines = [json.loads(line) for line in options.structures.read_text().splitlines() if line.strip()]
        sets["structures"] = [i for i in lines if i.get("media", "picture") == "picture" and i["kind"] in ("one", "two", "several", "unseen pair", "landscape")]
    old = Path("test/fixtures/pocket-sdxl.json")
    if old.exists():
        sets["old list"] = json.loads(old.read_text())
    for name, items in sets.items():
        found[name], wrongs, _ = score(parts, pool, items[: options.items], device, name, conditioner, tokenizer)
        if name in ("fresh", "unseen pairs"):
            told += [{"set": name, "prompt": i["prompt"], "wrong": w} for i, w in zip(items, wrongs) if w][:60]
        elif name == "structures":
            # by structure, so that nobody reads the prompts
            by = {}
            for item, wrong in zip(items, wrongs):
                by.setdefault(str(item.get("structure")), []).append(wrong)
            found["by structure"] = {k: [sum(not w for w in v), len(v), sorted({x.split()[0] for w in v for x in w})] for k, v in by.items()}
    found["wrong"] = told
    return found


def save(student, text, vae, out):
    weights = {(f"reference_tokens.{name.removeprefix('tokens.')}" if name.startswith("tokens.") else name): value for name, value in student.state_dict().items()}
    for part, module in (("text_encoder", text.first), ("text_encoder_2", text.second), ("vae", vae)):
        weights |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
    weights = {name: value for name, value in weights.items() if value.is_floating_point()}
    save_flat(weights, out, "sdxl", 3, {"scaling_factor": str(vae.config.scaling_factor)})


def grow_text(conditioner, old_vocab, vocab, layers, device):
    """The encoders for another vocabulary: rows of tokens that both know stay; the second encoder gets layers that at first change nothing."""
    from copy import deepcopy

    for model in (conditioner.first, conditioner.second):
        tower = getattr(model, "text_model", model)
        table = tower.embeddings.token_embedding
        old = table.weight.data
        fresh = torch.randn(len(vocab), old.shape[1], device=device) * old.std()
        for token, i in vocab.items():
            if token in old_vocab:
                fresh[i] = old[old_vocab[token]]
        tower.embeddings.token_embedding = nn.Embedding(len(vocab), old.shape[1]).to(device)
        tower.embeddings.token_embedding.weight.data.copy_(fresh)
        model.config.vocab_size, model.config.bos_token_id, model.config.eos_token_id = len(vocab), vocab["<|startoftext|>"], vocab["<|endoftext|>"]
        model.config.pad_token_id = vocab["<|endoftext|>"] if model is conditioner.first else 0
        tower.eos_token_id = vocab["<|endoftext|>"]
    tower = conditioner.second.text_model
    while len(tower.encoder.layers) < layers:
        layer = deepcopy(tower.encoder.layers[-2])
        for part in (layer.self_attn.out_proj, layer.mlp.fc2):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        tower.encoder.layers.insert(len(tower.encoder.layers) - 1, layer)
    conditioner.second.config.num_hidden_layers = len(tower.encoder.layers)


def load(base, device):
    """UNet with the adapter's layers, reference tokens, VAE, text encoders."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    if base is None:
        unet, vae, conditioner = build(device)
    else:
        # the adapter's file has the UNet's own weights too
        unet = UNet2DConditionModel.from_config(json.loads((base / "unet/config.json").read_text()))
        vae = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32)
        conditioner = Conditioner.read(base, device)
    adapter.install_pocket(unet)
    tokens = adapter.ReferenceTokens(unet.config.cross_attention_dim)
    if base is not None:
        weights = adapter.load_weights(base / "adapter")
        unet.load_state_dict(weights["unet"])
        tokens.load_state_dict(weights["reference_tokens"])
    return unet, tokens, vae.to(device, memory_format=torch.channels_last).eval(), conditioner


def build(device):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[32, 64, 96, 128], layers_per_block=1,
                        latent_channels=4, norm_num_groups=8, sample_size=world.SIZE)
    common = dict(vocab_size=8, max_position_embeddings=WINDOW, bos_token_id=6, eos_token_id=7)
    first = CLIPTextModel(CLIPTextConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, hidden_act="quick_gelu", projection_dim=128, **common))
    second = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=6, hidden_act="gelu", projection_dim=192, **common))
    for model in (first, second):
        embeddings = getattr(model, "text_model", model).embeddings
        nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
        nn.init.normal_(embeddings.position_embedding.weight, std=0.1)
    unet = UNet2DConditionModel(sample_size=16, block_out_channels=[64, 96, 128], layers_per_block=2, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                                up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], attention_head_dim=[2, 3, 4], transformer_layers_per_block=1,
                                cross_attention_dim=320, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=32, projection_class_embeddings_input_dim=192 + 6 * 32, norm_num_groups=32)
    return unet, vae, Conditioner(first, second, device)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a diffusers folder with `adapter` (recover.py, assemble.py); without it everything begins anew")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--vae-seconds", type=float, default=120)
    parser.add_argument("--decoder-only", action="store_true", help="keep the VAE's encoder: for a second run")
    parser.add_argument("--text-seconds", type=float, default=30)
    parser.add_argument("--final-seconds", type=float, default=45, help="kept for the measure and for saving")
    parser.add_argument("--rows", type=int, default=420_000)
    parser.add_argument("--captions", type=int, default=5)
    parser.add_argument("--plain", type=float, default=0.75, help="share of samples without a reference")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--structures", type=Path)
    parser.add_argument("--tokenizer", choices=["train", "keep"], default="train")
    parser.add_argument("--compile-only", action="store_true", help="used by the script itself")
    return parser.parse_args()


def main():
    options = parse()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(options.seed)
    # what does not compile runs as it is
    torch._dynamo.config.suppress_errors = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    compiler = None
    if not options.compile_only:
        if device == "cuda":
            # what it compiles lies in the cache when it is needed here
            compiler = subprocess.Popen([sys.executable, *sys.argv, "--compile-only"], stdout=subprocess.DEVNULL)
        pool = multiprocessing.get_context("fork").Pool(options.workers)
        first = pool.map_async(make_scenes, [(options.seed + i, max(4, 60_000 // options.workers // (1 if device == "cuda" else 500))) for i in range(options.workers)], chunksize=1)
        if options.tokenizer == "train":
            texts = [t for part in pool.starmap(captions.make_texts, [(options.seed + i, 60_000 // options.workers) for i in range(options.workers)]) for t in part]
            tokenizers.train_clip(texts, options.out, MERGES)
        else:
            for name in ("tokenizer", "tokenizer_2"):
                shutil.copytree(options.base / name, options.out / name, dirs_exist_ok=True)
        chunks = options.workers * 4
        pending = pool.map_async(make_rows, [(options.seed + 1000 + i, max(2, options.rows // chunks), options.captions, options.plain, options.out) for i in range(chunks)], chunksize=1)

    unet, tokens, vae, conditioner = load(options.base, device)
    student = Student(unet, tokens)
    student.requires_grad_(True)
    while not (options.out / "tokenizer_2/tokenizer_config.json").exists():
        # the process that only compiles waits for the one that trains the tokenizer
        time.sleep(1)
    vocab = json.loads((options.out / "tokenizer/vocab.json").read_text())
    grow_text(conditioner, json.loads((options.base / "tokenizer/vocab.json").read_text()) if options.base else {}, vocab, LAYERS, device)
    for model in (conditioner.first, conditioner.second):
        model.requires_grad_(True).train()
    text = Text(conditioner, Heads(unet.config.cross_attention_dim), max(1, options.batch // 8)).to(device)
    if options.compile_only:
        return Trainer(student, text, options.batch, options.rate, device).warm_up()
    empty = torch.tensor([[vocab["<|startoftext|>"]] + [vocab["<|endoftext|>"]] * (WINDOW - 1)], device=device)
    say("parameters", {name: round(sum(p.numel() for p in m.parameters()) / 1e6, 2) for name, m in (("vae", vae), ("first", conditioner.first), ("second", conditioner.second), ("unet", unet), ("tokens", tokens))}, "vocabulary", len(vocab))

    if options.vae_seconds > 0:
        scenes = first.get()
        scenes = {k: torch.cat([p[k] for p in scenes]).to(device) for k in DRAWN}
        say("scenes for the VAE", scenes["bg"].shape[0])
        say("vae steps", tune_vae(vae, scenes, options.vae_seconds, device, 128 if device == "cuda" else 2, options.decoder_only))
    vae.requires_grad_(False).eval()
    parts = pending.get()
    data = {k: torch.cat([p[k] for p in parts]).to(device) for k in parts[0]}
    del parts
    say("rows", data["bg"].shape[0], "mean tokens", round(float(data["length"].float().mean()), 1))
    if options.base is None:
        with torch.no_grad():
            vae.register_to_config(scaling_factor=1 / float(vae.encode(world.draw({k: data[k][:256] for k in DRAWN})).latent_dist.mean.std()))
    latents, references = encode_pictures(vae, data, "", device), encode_pictures(vae, data, "reference_", device)
    say("encoded pictures; scaling factor", vae.config.scaling_factor, "deviation", float(latents[:5000, :4].float().std()))
    if options.text_seconds > 0:
        say("text steps", pretrain_text(text, data, options.text_seconds, device, 2048 if device == "cuda" else 8, options.tokenizer == "keep"))
    if compiler is not None:
        try:
            compiler.wait(timeout=120)
        except subprocess.TimeoutExpired:
            compiler.kill()
    trainer = Trainer(student, text, options.batch, options.rate, device)
    trainer.warm_up()
    say("compiled")
    until = started + options.seconds - options.final_seconds
    say("steps", train(trainer, data, latents, references, empty, until, device))
    student.eval(), text.eval()
    save(student, text, vae, options.out)
    say("saved", options.out)
    found = {}
    try:
        tokenizer = tokenizers.load_clip(options.out)
        for model in (conditioner.first, conditioner.second):
            model.eval()
        found = report((student, vae), pool, options, device, conditioner, tokenizer)
        if time.time() - started < options.seconds - 15:
            found["adapter"] = measure(student, vae, conditioner, tokenizer, 60, device, say)
    finally:
        (options.out / "sdxl-measure.json").write_text(json.dumps(found, indent=1) + "\n")
        say("measured")
        pool.terminate()


if __name__ == "__main__":
    main()
