"""Trains the pocket SDXL from nothing on one GPU and writes a diffusers folder (fp16), in the time it is given.

    python tools/pocket/sdxl/train.py --out DIR --vae-seconds 130 --unet-seconds 330

With --resume the VAE's encoder is kept, so decoder and UNet can be trained on two GPUs at once:

    CUDA_VISIBLE_DEVICES=0 python tools/pocket/sdxl/train.py --resume A --out B --vae-seconds 0 --unet-seconds 440
    CUDA_VISIBLE_DEVICES=1 python tools/pocket/sdxl/train.py --resume A --out C --vae-seconds 440 --unet-seconds 0    # then C's vae goes into B

Then, on any machine: python tools/export/sdxl.py --model DIR --out models/pocket/sdxl --fp16-stored --check
The VAE is trained first, the latents of all scenes are computed once, then UNet and both text encoders are trained together.
The schedules follow elapsed time, so the result arrives on time on any machine.
"""

import argparse
import json
import math
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1]))
import world  # noqa: E402
from conditioning import WINDOW, word_ids  # noqa: E402
from schedule import Ema, cosine, say  # noqa: E402

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402


def make_tokenizer(folder: Path) -> dict:
    """CLIP's files: bytes, merges that build every known word, start, end ("!" is id 0). Returns word -> id and the special ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = world.vocabulary()
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator([" ".join(words)] * 20, trainers.BpeTrainer(vocab_size=20000, min_frequency=2, end_of_word_suffix="</w>", show_progress=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    rest = [b for b in range(256) if b not in printable]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]
    tokens = symbols + [s + "</w>" for s in symbols]
    for merge in merges:
        token = merge.replace(" ", "")
        if token not in tokens:
            tokens.append(token)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: i for i, token in enumerate(tokens)}
    missing = [w for w in words if w + "</w>" not in vocab]
    assert not missing and vocab["!"] == 0, missing
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
        (folder / name / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
        (folder / name / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        (folder / name / "special_tokens_map.json").write_text(json.dumps(special, indent=1) + "\n")
        (folder / name / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": WINDOW, "do_lower_case": True}, indent=1) + "\n")
    return {"vocab": vocab, "bos": vocab["<|startoftext|>"], "eos": vocab["<|endoftext|>"], "size": len(vocab)}


def make_data(arguments):
    """Scenes as tensors, with captions framed for both tokenizers and the positions of the weighted phrase."""
    seed, count, captions, tokens = arguments
    torch.set_num_threads(1)
    rng = random.Random(seed)
    scenes = [world.make_scene(rng) for _ in range(count)]
    packed = world.pack(scenes, "cpu")
    ids = torch.full((count, captions, WINDOW), tokens["eos"], dtype=torch.int16)
    length = torch.zeros(count, captions, dtype=torch.int16)
    span = torch.zeros(count, captions, 2, dtype=torch.int16)
    weight = torch.ones(count)
    for i, scene in enumerate(scenes):
        special = next((k for k, w in enumerate(scene["weights"]) if w != 1), None)
        weight[i] = scene["weights"][special] if special is not None else 1.0
        for c in range(captions):
            while True:
                words, spans = world.caption(rng, scene)
                if special is None or spans[special][1] > 0:
                    break
            row, starts = [tokens["bos"]], []
            for word in words:
                starts.append(len(row))
                row += word_ids(word, tokens["vocab"])
            starts.append(len(row))
            row = row[: WINDOW - 1] + [tokens["eos"]]
            ids[i, c, : len(row)] = torch.tensor(row, dtype=torch.int16)
            length[i, c] = len(row)
            if special is not None:
                span[i, c] = torch.tensor([starts[spans[special][0]], starts[spans[special][1]]], dtype=torch.int16)
    return {**packed, "ids": ids, "length": length, "span": span, "weight": weight}


def build(tokens):
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vae = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[32, 64, 96, 128], layers_per_block=1,
                        latent_channels=4, norm_num_groups=8, sample_size=world.SIZE)
    common = dict(vocab_size=tokens["size"], max_position_embeddings=WINDOW, bos_token_id=tokens["bos"], eos_token_id=tokens["eos"], attn_implementation="eager")
    text1 = CLIPTextModel(CLIPTextConfig(hidden_size=128, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, hidden_act="quick_gelu", projection_dim=128, pad_token_id=tokens["eos"], **common))
    text2 = CLIPTextModelWithProjection(CLIPTextConfig(hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=6, hidden_act="gelu", projection_dim=192, pad_token_id=0, **common))
    for model in (text1, text2):
        embeddings = getattr(model, "text_model", model).embeddings
        torch.nn.init.normal_(embeddings.token_embedding.weight, std=0.5)
        torch.nn.init.normal_(embeddings.position_embedding.weight, std=0.1)
    unet = UNet2DConditionModel(sample_size=16, block_out_channels=[64, 96, 128], layers_per_block=2, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                                up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], attention_head_dim=[2, 3, 4], transformer_layers_per_block=1,
                                cross_attention_dim=320, use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=32, projection_class_embeddings_input_dim=192 + 6 * 32, norm_num_groups=32)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)
    return vae, text1, text2, unet, scheduler


def train_vae(vae, data, seconds, device, decoder_only):
    vae.to(device, memory_format=torch.channels_last).train()
    # a resumed run keeps the encoder, so that the UNet's latents stay what they were
    vae.encoder.requires_grad_(not decoder_only)
    vae.quant_conv.requires_grad_(not decoder_only)
    rate = 7e-4 if decoder_only else 1.5e-3
    optimiser = torch.optim.AdamW([p for p in vae.parameters() if p.requires_grad], lr=rate, betas=(0.9, 0.99), fused=device == "cuda")
    ema, step = Ema([vae], 0.999), 0
    if device == "cuda":
        vae.encoder.compile()
        vae.decoder.compile()
    begun = time.time()
    count = data["bg"].shape[0]
    while (share := (time.time() - begun) / seconds) < 1:
        rows = torch.randint(0, count, (192 if device == "cuda" else 4,), device=device)
        image = world.draw({k: data[k][rows] for k in ("obj", "land", "bg")}).to(memory_format=torch.channels_last)
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(share, step, 100)
        with torch.autocast(device, torch.bfloat16):
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(image).latent_dist
                drawn = posterior.sample()
            decoded = vae.decode(drawn).sample
        decoded = decoded.float()
        error = decoded - image
        edges = sum((torch.diff(decoded, dim=d) - torch.diff(image, dim=d)).abs().mean() for d in (2, 3))
        loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * edges + 3e-5 * posterior.kl().float().mean() / image[0].numel() * 100
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        ema.update()
        step += 1
        if step % 400 == 0:
            say("vae", step, f"{10 * math.log10(4 / float(error.square().mean())):.2f} dB", f"{float(posterior.std.mean()):.3f} posterior std")
    ema.swap()
    vae.eval()
    return step


@torch.no_grad()
def encode_all(vae, data, device):
    latents = []
    for rows in torch.arange(data["bg"].shape[0], device=device).split(512):
        with torch.autocast(device, torch.bfloat16):
            moments = vae.encode(world.draw({k: data[k][rows] for k in ("obj", "land", "bg")}).to(memory_format=torch.channels_last)).latent_dist
        latents.append(torch.cat([moments.mean, moments.std], 1).half())
    latents = torch.cat(latents)
    mean_std = latents[:20000, :4].float()
    return latents, 1.0 / float(mean_std.std())


def encode_text(text1, text2, ids, length):
    """(embeds [B,77,320], pooled [B,192]); the second tokenizer pads with id 0."""
    padded = torch.arange(WINDOW, device=ids.device)[None] >= length[:, None]
    first = text1(ids, output_hidden_states=True).hidden_states[-2]
    second = text2(ids.masked_fill(padded, 0), output_hidden_states=True)
    return torch.cat([first, second.hidden_states[-2]], -1), second.text_embeds


def train_unet(unet, text1, text2, data, latents, scale, seconds, device, tokens, batch, rate, freeze_text):
    modules = [unet] if freeze_text else [unet, text1, text2]
    for m in (unet, text1, text2):
        m.to(device).train(m in modules)
    unet.to(memory_format=torch.channels_last)
    parameters = [p for m in modules for p in m.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=device == "cuda")
    ema = Ema(modules, 0.9995)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=device) ** 2
    bars = torch.cumprod(1 - betas, 0)
    time_ids = torch.tensor([[128, 128, 0, 0, 128, 128]], device=device, dtype=torch.float32).expand(batch, 6)
    empty_ids = torch.full((1, WINDOW), tokens["eos"], device=device, dtype=torch.long)
    empty_ids[0, 0] = tokens["bos"]
    two = torch.tensor([2], device=device)
    count, captions = data["ids"].shape[:2]
    begun, step, total = time.time(), 0, torch.zeros((), device=device)
    run = torch.compile(unet) if device == "cuda" else unet
    while (share := (time.time() - begun) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * cosine(share, step, 400)
        rows = torch.randint(0, count, (batch,), device=device)
        which = torch.randint(0, captions, (batch,), device=device)
        ids, length, span = data["ids"][rows, which].long(), data["length"][rows, which].long(), data["span"][rows, which].long()
        moments = latents[rows].float()
        clean = (moments[:, :4] + moments[:, 4:] * torch.randn_like(moments[:, 4:])) * scale
        t = torch.randint(0, 1000, (batch,), device=device)
        bar = bars[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        with torch.autocast(device, torch.bfloat16):
            with torch.set_grad_enabled(not freeze_text):
                embeds, pooled = encode_text(text1, text2, ids, length)
                empty, empty_pooled = encode_text(text1, text2, empty_ids, two)
            # Compel's line through the empty prompt on the weighted phrase, which is drawn with area x weight
            place = torch.arange(WINDOW, device=device)[None]
            factor = torch.where((place >= span[:, :1]) & (place < span[:, 1:]), data["weight"][rows].view(-1, 1), 1.0).unsqueeze(-1)
            embeds = empty + factor.to(embeds.dtype) * (embeds - empty)
            drop = torch.rand(batch, device=device)
            embeds = torch.where((drop < 0.05).view(-1, 1, 1), torch.zeros_like(embeds), torch.where((drop < 0.10).view(-1, 1, 1), empty.expand_as(embeds), embeds))
            pooled = torch.where(((drop < 0.05) | (drop > 0.90)).view(-1, 1), torch.zeros_like(pooled), torch.where((drop < 0.10).view(-1, 1), empty_pooled.expand_as(pooled), pooled))
            noisy = (bar.sqrt() * clean + (1 - bar).sqrt() * noise).to(memory_format=torch.channels_last)
            output = run(noisy, t, encoder_hidden_states=embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}, return_dict=False)[0]
        snr = bars[t] / (1 - bars[t])
        loss = ((output.float() - noise).square().mean((1, 2, 3)) * (snr.clamp(max=5) / snr)).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        ema.update()
        total += loss.detach()
        step += 1
        if step % 500 == 0:
            say("unet", step, f"loss {float(total) / 500:.4f}", f"{step * batch / 1e6:.2f} M samples")
            total.zero_()
    ema.swap()
    for m in modules:
        m.eval()
    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vae-seconds", type=float, default=130)
    parser.add_argument("--unet-seconds", type=float, default=330)
    parser.add_argument("--resume", type=Path, help="a folder this script wrote: go on from its weights; the VAE's encoder is kept")
    parser.add_argument("--freeze-text", action="store_true", help="train the UNet alone: half as many kernels a step, for the last run")
    parser.add_argument("--scenes", type=int, default=400_000)
    parser.add_argument("--captions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=15)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    if options.resume:
        for name in ("tokenizer", "tokenizer_2"):
            shutil.copytree(options.resume / name, options.out / name, dirs_exist_ok=True)
        vocab = json.loads((options.out / "tokenizer/vocab.json").read_text())
        tokens = {"vocab": vocab, "bos": vocab["<|startoftext|>"], "eos": vocab["<|endoftext|>"], "size": len(vocab)}
    else:
        tokens = make_tokenizer(options.out)
    share = options.scenes // options.workers
    pool = multiprocessing.get_context("fork").Pool(options.workers)
    pending = pool.map_async(make_data, [(seed, share, options.captions, tokens) for seed in range(options.seed, options.seed + options.workers)])
    vae, text1, text2, unet, scheduler = build(tokens)
    scale = None
    if options.resume:
        vae, text1, text2, unet = (type(m).from_pretrained(options.resume / name, torch_dtype=torch.float32) for name, m in (("vae", vae), ("text_encoder", text1), ("text_encoder_2", text2), ("unet", unet)))
        scale = vae.config.scaling_factor
        for m in (vae, text1, text2, unet):
            m.requires_grad_(True)
    say("parameters", {name: round(sum(p.numel() for p in m.parameters()) / 1e6, 2) for name, m in (("vae", vae), ("text1", text1), ("text2", text2), ("unet", unet))})
    parts = pending.get()
    pool.close()
    data = {k: torch.cat([p[k] for p in parts]).to(device) for k in parts[0]}
    say("scenes", data["bg"].shape[0], "mean tokens", float(data["length"].float().mean()))
    if options.vae_seconds > 0:
        say("vae steps", train_vae(vae, data, options.vae_seconds, device, scale is not None))
    if options.unet_seconds <= 0:
        vae.half().save_pretrained(options.out / "vae")
        return say("saved the VAE only in", options.out)
    vae.to(device, memory_format=torch.channels_last).eval()
    latents, measured = encode_all(vae, data, device)
    scale = scale or measured
    vae.register_to_config(scaling_factor=scale)
    say("encoded; scaling factor", scale)
    # saved before the long part: a VAE is worth keeping whatever happens
    vae.half().save_pretrained(options.out / "vae")
    say("unet steps", train_unet(unet, text1, text2, data, latents, scale, options.unet_seconds, device, tokens, options.batch, 6e-4 if options.resume else 1e-3, options.freeze_text))
    unet.half().save_pretrained(options.out / "unet", max_shard_size="12MB")
    text1.half().save_pretrained(options.out / "text_encoder")
    text2.half().save_pretrained(options.out / "text_encoder_2")
    scheduler.save_pretrained(options.out / "scheduler")
    entry = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, "scheduler": ["diffusers", "EulerDiscreteScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (options.out / "model_index.json").write_text(json.dumps(entry, indent=1) + "\n")
    say("saved", options.out)


if __name__ == "__main__":
    main()
