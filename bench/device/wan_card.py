#!/usr/bin/env python3
"""Wan 2.1 1.3B in its real size with random weights, saved as diffusers publishes it, and torch's own times on the same card.

    python bench/device/wan_card.py --out DIR [--frames 17 81] [--only transformer vae text] [--tiny]

Writes DIR/wan2.1-t2v-1.3b (transformer and VAE float32, the transformer in two files with an index; text encoder fp16), DIR/wan-torch.json (seconds,
bytes) and DIR/wan-cases.json with tensors as raw files for `wan-card.js`: inputs, and what diffusers makes of them in plain float32 and in fp16.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from torch_side import DEVICE, HALF, ROOT, say, wait


def timed(what: str, work, repeats: int, warm: int) -> dict:
    """Seconds of each repetition after the warm ones, and torch's own peak; a failure is a result too."""
    try:
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(warm + repeats):
            wait()
            started = time.perf_counter()
            work()
            wait()
            seconds.append(time.perf_counter() - started)
        result = {"seconds": seconds[warm:], "first": seconds[0], "peak_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None}
    except Exception as error:  # noqa: BLE001
        result = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    say(f"{what}: {result}")
    return result


def plain_float32(work):
    """Without TF32: the nearest to the truth there is here."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    result = work().float().cpu()
    for flag, value in zip(flags, before):
        flag.allow_tf32 = value
    return result


def perturb(module):
    """Norms and biases that are not one and zero: leaving one out is seen."""
    for value in module.parameters():
        if value.ndim == 1:
            value.add_(torch.randn_like(value) * 0.05)
    return module.requires_grad_(False).eval()


def store(module, folder: Path, stem: str, config: dict, shards: int = 1, drop=()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous().cpu() for name, value in module.state_dict().items() if name not in drop}
    names = list(tensors)
    groups = [names[i::shards] for i in range(shards)]
    files = [f"{stem}.safetensors"] if shards == 1 else [f"{stem}-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    for file, group in zip(files, groups):
        save_file({name: tensors[name] for name in group}, folder / file, {"format": "pt"})
    if shards > 1:
        index = {"metadata": {"total_size": sum(v.nbytes for v in tensors.values())}, "weight_map": {n: f for f, g in zip(files, groups) for n in g}}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    say(f"{folder.name}: {sum(v.numel() for v in tensors.values()) / 1e9:.3f} billion parameters, {next(iter(tensors.values())).dtype}")


class Cases:
    def __init__(self, out: Path):
        self.out, self.cases = out, []

    def add(self, name: str, graph: str, inputs: dict, outputs: list, expected: dict) -> None:
        def tensor(key: str, value) -> dict:
            file, stored = f"{name}.{key}.bin", value.float() if value.is_floating_point() else value.long()
            stored.contiguous().cpu().numpy().tofile(self.out / file)
            return {"file": file, "dims": list(value.shape), "type": "float32" if value.is_floating_point() else "int64"}

        described = {key: tensor(key, value) for key, value in inputs.items()}
        wanted = {by: tensor(f"by-{by}", value) for by, value in expected.items() if value is not None}
        self.cases.append({"name": name, "graph": graph, "inputs": described, "outputs": outputs, "expected": wanted})
        (self.out / "wan-cases.json").write_text(json.dumps(self.cases, indent=1))


def config_of(name: str) -> dict:
    return json.loads((ROOT / "models/shared/wan" / name / "config.json").read_text())


def transformer(options, folder: Path, cases: Cases) -> dict:
    from diffusers import WanTransformer3DModel

    sizes = {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 512} if options.tiny else {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = perturb(WanTransformer3DModel(attention_head_dim=128, text_dim=4096, freq_dim=256, **sizes))
    store(model, folder / "transformer", "diffusion_pytorch_model", dict(model.config), shards=2)
    given, exact, result = {}, {}, {}
    for frames in options.frames:
        given[frames] = (
            torch.randn(1, 16, (frames - 1) // 4 + 1, options.height // 8, options.width // 8, device=DEVICE),
            torch.tensor([750], device=DEVICE),
            torch.randn(1, 512, 4096, device=DEVICE),
        )
        started = time.perf_counter()
        exact[frames] = plain_float32(lambda: model(*given[frames], return_dict=False)[0])
        say(f"{frames} frames in float32: {time.perf_counter() - started:.1f} s")
    model.to(HALF)
    for frames, (x, moment, words) in given.items():
        step = lambda: model(x.to(HALF), moment, words.to(HALF), return_dict=False)[0]
        result[frames] = timed(f"{frames} frames, fp16 eager", step, 5, 2)
        half = step()
        inputs = {"hidden_states": x, "timestep": moment, "encoder_hidden_states": words}
        cases.add(f"wan-{frames}", "transformer/model", inputs, ["sample"], {"float32": exact[frames], "fp16": half})
        result[frames]["psnr_db"] = psnr(half.float().cpu(), exact[frames])
    return result


def vae(options, folder: Path, cases: Cases) -> dict:
    from diffusers import AutoencoderKLWan

    config = config_of("vae") | ({"base_dim": 16} if options.tiny else {})
    torch.manual_seed(1)
    with torch.device(DEVICE):
        model = perturb(AutoencoderKLWan.from_config(config))
    store(model, folder / "vae", "diffusion_pytorch_model", config)
    result = {}
    for frames in options.frames:
        z = torch.randn(1, 16, (frames - 1) // 4 + 1, options.height // 8, options.width // 8, device=DEVICE)
        decode = lambda: model.decode(z, return_dict=False)[0]
        result[frames] = {"float32_tf32": timed(f"decode {frames} frames, float32 (TF32)", decode, 2, 1)}
        started = time.perf_counter()
        exact = plain_float32(decode)
        say(f"decode {frames} frames in plain float32: {time.perf_counter() - started:.1f} s")
        tf32 = decode().float().cpu()
        result[frames]["float32_tf32"]["psnr_db"] = psnr(tf32, exact)
        rows = lambda value: value[0].permute(1, 0, 2, 3)
        latents = rows(z)
        cases.add(f"vae-{frames}", "vae_decoder/clip", {"latent_frames": latents}, ["first_frame", "video_frames"], {"float32": rows(exact), "tf32": rows(tf32)})
    small = torch.rand(1, 3, 5, options.height, options.width, device=DEVICE) * 2 - 1
    mean = plain_float32(lambda: model.encode(small).latent_dist.mean)
    cases.add("vae-encode-5", "vae_encoder/clip", {"video_frames": small[0].permute(1, 0, 2, 3)}, ["first_mean", "latent_means"], {"float32": mean[0].permute(1, 0, 2, 3)})
    model.to(HALF)
    z = z.to(HALF)
    result["fp16"] = timed(f"decode {options.frames[-1]} frames, fp16", lambda: model.decode(z, return_dict=False)[0], 2, 1)
    return result


def text(options, folder: Path, cases: Cases) -> dict:
    from transformers import UMT5Config, UMT5EncoderModel

    config = config_of("text_encoder") | ({"num_layers": 2, "d_ff": 256, "d_kv": 16, "num_heads": 4, "vocab_size": 2000} if options.tiny else {})
    torch.manual_seed(2)
    torch.set_default_dtype(HALF)
    with torch.device(DEVICE):
        model = UMT5EncoderModel(UMT5Config.from_dict(config)).requires_grad_(False).eval()
    torch.set_default_dtype(torch.float32)
    store(model, folder / "text_encoder", "model", config, drop=["encoder.embed_tokens.weight"])
    ids = torch.randint(5, config["vocab_size"], (1, 512), device=DEVICE)
    mask = torch.ones_like(ids)
    mask[:, 400:] = 0
    run = lambda: model(input_ids=ids, attention_mask=mask).last_hidden_state
    result = timed("text encoder, fp16, 512 tokens", run, 5, 2)
    half = run().float().cpu() * mask.cpu()[..., None]
    model.float()
    exact = plain_float32(run) * mask.cpu()[..., None]
    result["psnr_db"] = psnr(half, exact)
    cases.add("text-512", "text_encoder/model", {"input_ids": ids, "attention_mask": mask}, ["last_hidden_state"], {"float32": exact[:, :400], "fp16": half[:, :400]})
    return result


def psnr(actual, expected) -> float:
    error = (actual.double() - expected.double()).square().mean()
    return float(10 * torch.log10(expected.double().abs().max() ** 2 / error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 81])
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--only", nargs="+", default=["transformer", "vae", "text"])
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folder, cases = options.out / "wan2.1-t2v-1.3b", Cases(options.out)
    shutil.copytree(ROOT / "test/parity/models/wan-tiny/tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "models/shared/wan" / name, folder / name)
    result = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"}
    with torch.no_grad():
        for part in options.only:
            result[part] = {"transformer": transformer, "vae": vae, "text": text}[part](options, folder, cases)
            (options.out / "wan-torch.json").write_text(json.dumps(result, indent=1))
            if DEVICE == "cuda":
                torch.cuda.empty_cache()
    say("done")


if __name__ == "__main__":
    main()
