#!/usr/bin/env python3
"""torch's fastest UNet on this card, beside which ours is judged: eager, and torch.compile(mode="reduce-overhead"), in fp16.

    python bench/device/compiled_unet.py --models DIR

Reads the checkpoint and the pass that `full_size.py sdxl` left in DIR; writes DIR/sdxl-unet-compiled.json. Compiling takes about two minutes.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from torch_side import DEVICE, HALF, wait


def timed(work, passes: int) -> list[float]:
    """Milliseconds of each pass."""
    times = []
    for _ in range(passes):
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append((time.perf_counter() - began) * 1000)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    folder = parser.parse_args().models
    step = json.loads((folder / "sdxl-unet.json").read_text())
    load = lambda stored: torch.from_numpy(np.fromfile(folder / stored["file"], np.float32).reshape(stored["dims"])).to(DEVICE)
    given = {stored["name"]: load(stored).to(HALF) for stored in step["inputs"]}
    unet = UNet2DConditionModel.from_config(json.loads((folder / "sdxl/unet/config.json").read_text()))
    unet.load_state_dict(load_file(folder / "sdxl/unet/diffusion_pytorch_model.fp16.safetensors"))
    unet = unet.to(DEVICE, HALF).eval().requires_grad_(False)
    added = {"text_embeds": given["text_embeds"], "time_ids": given["time_ids"]}

    def through(model):
        return lambda: model(given["sample"], given["timestep"], encoder_hidden_states=given["encoder_hidden_states"], added_cond_kwargs=added, return_dict=False)[0]

    def decibels(result, expected) -> float:
        peak = expected.abs().max().item()
        return 10 * np.log10(peak * peak / max((result.float() - expected).pow(2).mean().item(), 1e-30))

    exact = load(step["expected"]["fp32"])
    results = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"}

    def report(name: str, work, passes: int, **more) -> None:
        times = timed(work, passes)
        results[name] = {"median_ms": statistics.median(times), "least_ms": min(times), "psnr_db": float(decibels(work(), exact)), **more}
        print(name, results[name], flush=True)
        (folder / "sdxl-unet-compiled.json").write_text(json.dumps(results, indent=2) + "\n")

    with torch.no_grad():
        eager = through(unet)
        timed(eager, 3)
        report("eager", eager, 20 if DEVICE == "cuda" else 1)
        compiled = through(torch.compile(unet, mode="reduce-overhead", fullgraph=True))
        began = time.perf_counter()
        timed(compiled, 4)
        report("compiled", compiled, 40 if DEVICE == "cuda" else 1, compile_seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
