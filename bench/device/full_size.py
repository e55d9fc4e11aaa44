#!/usr/bin/env python3
"""Full-size models with random weights, exported as real ones are, and torch's own times on the same GPU.

    python bench/device/full_size.py sdxl --out DIR --clip-tokenizers test/parity/models/sdxl-tiny
    python bench/device/full_size.py wan --out DIR [--frames 17 81 --width 832 --height 480]

Writes DIR/sdxl or DIR/wan2.1-t2v-1.3b and DIR/<name>-torch.json (seconds, bytes), and for `graph-step.js` one forward pass each
as DIR/<step>.json with its tensors as raw files. `--wait-for FILE` holds the timing back until FILE exists, so that
nothing else computes beside it. `--tiny` shrinks every size, to try the script.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "export"))

from common import export_graph  # noqa: E402
from random_models import sdxl_pipeline, wan_transformer  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STARTED = time.perf_counter()


def say(text: str) -> None:
    print(f"{time.perf_counter() - STARTED:7.1f} s  {text}", flush=True)


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def timed(work, repeats: int) -> dict:
    """Wall seconds of each repetition after one that is not counted, and torch's own peak of device memory."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats + 1):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return {"seconds": times[1:], "peak_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None}


def attempt(work, repeats: int) -> dict:
    """As `timed`; a failure is a result too: what else this run measures must not be lost to it."""
    try:
        return timed(work, repeats)
    except Exception as error:  # noqa: BLE001
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}


def save(path: Path, value) -> None:
    """Whole or not at all: another process waits for it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


def write_step(out: Path, name: str, graph: str, inputs: dict, output: str, expected, torch_seconds: float) -> None:
    """One forward pass for `graph-step.js`: tensors as little-endian float32 or int64."""
    described = []
    for key, value in [*inputs.items(), (output, expected)]:
        file = f"{name}.{key}.bin"
        stored = value.float() if value.is_floating_point() else value.long()
        stored.contiguous().cpu().numpy().tofile(out / file)
        described.append({"name": key, "file": file, "dims": list(value.shape), "type": "float32" if value.is_floating_point() else "int64"})
    save(out / f"{name}.json", {"graph": graph, "inputs": described[:-1], "output": described[-1], "torch_seconds": torch_seconds})


def pause(options, name: str) -> None:
    save(options.out / f"{name}-exported.json", {"seconds": time.perf_counter() - STARTED})
    say("exported")
    while options.wait_for is not None and not options.wait_for.exists():
        time.sleep(0.2)


def wan(options) -> dict:
    from wan_transformer import ExportTransformer

    model = wan_transformer(DEVICE, options.tiny)
    parameters = sum(value.numel() for value in model.parameters())
    module = ExportTransformer(model).to(DEVICE)
    module.halve()
    say(f"transformer of {parameters / 1e9:.2f} billion parameters")

    def inputs(frames: int, height: int, width: int, words: int) -> dict:
        return {
            "hidden_states": torch.randn(1, 16, frames, height, width, device=DEVICE), "timestep": torch.tensor([750], device=DEVICE),
            "encoder_hidden_states": torch.randn(1, words, 4096, device=DEVICE),
        }

    graph = "wan2.1-t2v-1.3b/transformer/model.onnx"
    volume = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    axes = {"hidden_states": volume, "sample": volume, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}}
    export_graph(module, inputs(2, 8, 10, 24), ["sample"], options.out / graph, axes)
    pause(options, "wan")

    passes, given = {}, {}
    for frames in options.frames:
        given[frames] = inputs((frames - 1) // 4 + 1, options.height // 8, options.width // 8, 512)
        passes[frames] = {"tokens": given[frames]["hidden_states"][0, 0].numel() // 4, "exported_form": attempt(lambda: module(*given[frames].values()), 3)}
        if "seconds" in passes[frames]["exported_form"]:
            write_step(options.out, f"wan-{frames}", graph, given[frames], "sample", module(*given[frames].values()), min(passes[frames]["exported_form"]["seconds"]))
        say(f"{frames} frames in torch: {passes[frames]['exported_form']}")
    # the baseline a torch user has: diffusers' own module, all of it in half precision
    model.half()
    for frames in options.frames:
        x, moment, text = given[frames].values()
        passes[frames]["diffusers_fp16"] = attempt(lambda: model(x.half(), moment, text.half(), return_dict=False), 3)
        say(f"{frames} frames in diffusers: {passes[frames]['diffusers_fp16']}")
    return {"parameters": parameters, "frames": passes}


def sdxl(options) -> dict:
    from diffusers.models.attention_processor import AttnProcessor2_0
    from sdxl import Float32Norm, FusedAttentionProcessor, export_parts, write_configs

    pipe = sdxl_pipeline(DEVICE, options.tiny, options.clip_tokenizers, options.width, options.height)
    parameters = {name: sum(value.numel() for value in getattr(pipe, name).parameters()) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    say(f"models of {sum(parameters.values()) / 1e9:.2f} billion parameters")
    pipe.unet.set_attn_processor(FusedAttentionProcessor())
    folder = options.out / "sdxl"
    write_configs(pipe, options.clip_tokenizers, folder)
    export_parts(pipe, folder, [], fp16=True, check=False, say=say)
    pause(options, "sdxl")

    latent = (options.height // 8, options.width // 8)
    half = {"device": DEVICE, "dtype": torch.float16}
    inputs = {
        "sample": torch.randn(2, 4, *latent, **half), "timestep": torch.tensor(501.0, device=DEVICE), "encoder_hidden_states": torch.randn(2, 77, 2048, **half),
        "text_embeds": torch.randn(2, 1280, **half), "time_ids": torch.tensor([[options.height, options.width, 0, 0, options.height, options.width]] * 2, **half),
    }
    sample, moment, words, pooled, sizes = inputs.values()
    step = lambda: pipe.unet(sample, moment, encoder_hidden_states=words, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}, return_dict=False)[0]
    exported_form = attempt(step, 5)
    say(f"UNet in the exported form, in torch: {exported_form}")
    if "seconds" in exported_form:
        write_step(options.out, "sdxl-unet", "sdxl/unet/model.onnx", inputs, "out_sample", step(), min(exported_form["seconds"]))
    # the baseline a torch user has: diffusers' UNet and attention, all of it in half precision
    for parent in list(pipe.unet.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Float32Norm):
                setattr(parent, name, child.norm.half())
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    plain = attempt(step, 10)
    say(f"UNet in diffusers: {plain}")
    decode = attempt(lambda: pipe.vae.decode(torch.randn(1, 4, *latent, device=DEVICE)), 2)
    say(f"decoder in torch: {decode}")
    return {"parameters": parameters, "unet_exported_form": exported_form, "unet_diffusers_fp16": plain, "decode_fp32": decode}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["sdxl", "wan"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clip-tokenizers", type=Path, help="folder with tokenizer and tokenizer_2 (sdxl)")
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 81])
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--wait-for", type=Path, help="time only once this file exists")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.width = options.width or (832 if options.which == "wan" else 1024)
    options.height = options.height or (480 if options.which == "wan" else 1024)
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        result = {"wan": wan, "sdxl": sdxl}[options.which](options)
    result |= {"torch": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "width": options.width, "height": options.height}
    save(options.out / f"{options.which}-torch.json", result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
