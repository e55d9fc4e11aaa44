#!/usr/bin/env python3
"""Exports a tiny random VACE transformer and records what diffusers' WanVACEPipeline does with it.

    python tools/parity/record_vace.py KIT

KIT is a folder in the format of the recorded references; text encoder, VAE and tokenizer are its `wan-tiny`'s. Writes
test/parity/models/wan-tiny-vace/transformer and test/fixtures/vace.safetensors. The pictures are the formula of
`picture` at the clip's own size, so that no resampling takes part.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline, WanVACETransformer3DModel
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, UMT5EncoderModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))
from wan import export_transformer  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SIDE, FRAMES, STEPS, GUIDANCE, SHIFT, SEED = 32, 9, 4, 4.0, 5.0, 11
PROMPT = "a red circle moves from left to right"


def picture(phase: int) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3]: (7x + 3y·(c + 1) + 40·phase) mod 256."""
    y, x, c = np.meshgrid(np.arange(SIDE), np.arange(SIDE), np.arange(3), indexing="ij")
    return ((7 * x + 3 * y * (c + 1) + 40 * phase) % 256).astype(np.uint8)


def as_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32) / 255).permute(2, 0, 1)


def main() -> None:
    kit = Path(sys.argv[1]) / "wan-tiny"
    torch.manual_seed(3)
    transformer = WanVACETransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, text_dim=32, freq_dim=32, ffn_dim=96, num_layers=2, vace_layers=[0, 1], vace_in_channels=96,
    ).requires_grad_(False).eval()
    pipe = WanVACEPipeline(
        tokenizer=AutoTokenizer.from_pretrained(kit / "tokenizer"), text_encoder=UMT5EncoderModel.from_pretrained(kit / "text_encoder", dtype=torch.float32),
        vae=AutoencoderKLWan.from_pretrained(kit / "vae", torch_dtype=torch.float32), transformer=transformer,
        scheduler=UniPCMultistepScheduler.from_pretrained(kit / "scheduler", flow_shift=SHIFT),
    )
    pipe.set_progress_bar_config(disable=True)
    records = {}
    for name, known, reference in (("none", {}, None), ("start", {0: 1}, None), ("end", {FRAMES - 1: 2}, None), ("both", {0: 1, FRAMES - 1: 2}, None), ("single", {}, 3)):
        # a frame that is to be made is grey: 0.5 in [0, 1]
        video = torch.full((1, FRAMES, 3, SIDE, SIDE), 0.5)
        mask = torch.ones_like(video)
        for frame, phase in known.items():
            video[0, frame], mask[0, frame] = as_tensor(picture(phase)), 0
        inputs = {} if not known else {"video": video, "mask": mask}
        if reference is not None:
            inputs["reference_images"] = Image.fromarray(picture(reference))
        latents = pipe(
            prompt=PROMPT, negative_prompt="", height=SIDE, width=SIDE, num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            generator=torch.Generator("cpu").manual_seed(SEED), output_type="latent", **inputs,
        ).frames
        records[name] = latents.contiguous()
        print(name, tuple(latents.shape), float(latents.std()))
    folder = ROOT / "test/parity/models/wan-tiny-vace"
    export_transformer(transformer, folder, "fp32", check=True)
    config = {key: value for key, value in transformer.config.items() if not key.startswith("_")}
    (folder / "transformer/config.json").write_text(json.dumps({"_class_name": "WanVACETransformer3DModel", **config}, indent=2) + "\n")
    save_file(records, ROOT / "test/fixtures/vace.safetensors")


with torch.no_grad():
    main()
