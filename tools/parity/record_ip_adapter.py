#!/usr/bin/env python3
"""Records two runs of diffusers with an IP-Adapter on the tiny SDXL: one of the plain kind, one of the "plus" kind.

    python tools/parity/record_ip_adapter.py

Weights are not stored: `adapters.json` says of each tensor of the three files (names as h94/IP-Adapter and transformers have them) its shape and how it is
drawn: torch.randn(shape, seed) · scale + offset, which the service's own generator draws, too.
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "test/parity/models/sdxl-tiny"
KIT = ROOT / "test/parity/kit/sdxl-tiny"

VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "projection_dim": 24,
          "hidden_act": "gelu", "layer_norm_eps": 1e-5}
TEXT, TOKENS, PLUS_TOKENS, INNER, WIDTH, DEPTH = 80, 4, 6, 128, 40, 4
CASES = [
    {"name": "adapter_plain", "adapter": "plain", "width": 64, "height": 48, "reference_type": "character", "reference_strength": 0.5, "factors": None},
    {"name": "adapter_plus", "adapter": "plus", "width": 48, "height": 64, "reference_type": "style", "reference_strength": 1.0, "factors": "each its own"},
]


def recipe(name: str, shape: list, seed: int) -> dict:
    """Norms around one, matrices so that values keep their size, all else small."""
    inputs = math.prod(shape[1:])
    norm = name.endswith(".weight") and len(shape) == 1
    scale = 0.2 if norm else 0.3 if len(shape) == 1 else round(1 / math.sqrt(inputs), 6)
    return {"name": name, "shape": shape, "seed": seed, "scale": scale, "offset": 1 if norm else 0}


def drawn(recipes: list) -> dict:
    return {r["name"]: torch.randn(r["shape"], generator=torch.Generator().manual_seed(r["seed"])) * r["scale"] + r["offset"] for r in recipes}


def projections(kind: str) -> dict:
    if kind == "plain":
        return {"proj.weight": [TOKENS * TEXT, VISION["projection_dim"]], "proj.bias": [TOKENS * TEXT], "norm.weight": [TEXT], "norm.bias": [TEXT]}
    layer = {"0.norm1.weight": [WIDTH], "0.norm1.bias": [WIDTH], "0.norm2.weight": [WIDTH], "0.norm2.bias": [WIDTH], "0.to_q.weight": [INNER, WIDTH], "0.to_kv.weight": [2 * INNER, WIDTH],
             "0.to_out.weight": [WIDTH, INNER], "1.0.weight": [WIDTH], "1.0.bias": [WIDTH], "1.1.weight": [4 * WIDTH, WIDTH], "1.3.weight": [WIDTH, 4 * WIDTH]}
    layers = {f"layers.{i}.{name}": shape for i in range(DEPTH) for name, shape in layer.items()}
    return {"latents": [1, PLUS_TOKENS, WIDTH], "proj_in.weight": [WIDTH, VISION["hidden_size"]], "proj_in.bias": [WIDTH], **layers,
            "proj_out.weight": [TEXT, WIDTH], "proj_out.bias": [TEXT], "norm_out.weight": [TEXT], "norm_out.bias": [TEXT]}


def main() -> None:
    torch.set_grad_enabled(False)
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    names = [name.removesuffix(".processor") for name in pipe.unet.attn_processors if ".attn2." in name]
    widths = [pipe.unet.get_submodule(name).inner_dim for name in names]
    attention = {f"ip_adapter.{2 * i + 1}.{kind}.weight": [width, TEXT] for i, width in enumerate(widths) for kind in ("to_k_ip", "to_v_ip")}
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).eval()
    shapes = {
        "image_encoder": {name: list(value.shape) for name, value in vision.state_dict().items() if not name.endswith("position_ids")},
        **{kind: {**{f"image_proj.{name}": shape for name, shape in projections(kind).items()}, **attention} for kind in ("plain", "plus")},
    }
    recipes, seed = {}, 5000
    for file, tensors in shapes.items():
        recipes[file] = []
        for name, shape in tensors.items():
            recipes[file].append(recipe(name, shape, seed))
            seed += 1
    vision.load_state_dict(drawn(recipes["image_encoder"]), strict=False)
    pipe.image_encoder = vision

    picture = Image.fromarray(np.stack([np.add.outer(7 * np.arange(32), 3 * np.arange(32)) % 256, np.add.outer(np.arange(32), 6 * np.arange(32)) % 256, np.multiply.outer(np.arange(32), np.arange(32)) % 256], -1).astype(np.uint8))
    picture.save(KIT / "cases/adapter_reference.png")
    cases = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            save_file(drawn(recipes[case["adapter"]]), Path(folder) / "adapter.safetensors")
            pipe.load_ip_adapter(folder, subfolder="", weight_name="adapter.safetensors", image_encoder_folder=None)
        factors = [0.6] * len(names) if case["factors"] is None else [round(0.2 + 0.07 * i, 2) for i in range(len(names))]
        for name, factor in zip(names, factors, strict=True):
            pipe.unet.attn_processors[f"{name}.processor"].scale = [factor * case["reference_strength"]]
        run = {"prompt": "a red circle above a blue square", "negative_prompt": "blurry, low quality", "width": case["width"], "height": case["height"], "guidance_scale": 6.0, "num_inference_steps": 4}
        steps = []
        keep = lambda pipe, index, timestep, values: steps.append(values["latents"].clone()) or values
        image = pipe(**run, ip_adapter_image=picture, generator=torch.Generator().manual_seed(42), output_type="np", callback_on_step_end=keep).images
        [embeds] = pipe.prepare_ip_adapter_image_embeds(picture, None, "cpu", 1, True)
        [projection] = pipe.unet.encoder_hid_proj.image_projection_layers
        empty, tokens = (projection(half.flatten(0, 1) if half.ndim == 4 else half.squeeze(1)) for half in embeds.chunk(2))
        records = {"ip_tokens": tokens, "empty_ip_tokens": empty, "latents_first": steps[0], "latents_final": steps[-1], "image": torch.from_numpy(image),
                   "timesteps": pipe.scheduler.timesteps.float(), "sigmas": pipe.scheduler.sigmas.float()}
        file = f"cases/{case['name']}.safetensors"
        save_file({name: value.contiguous() for name, value in records.items()}, KIT / file)
        pipe.unload_ip_adapter()
        pipe.image_encoder = vision
        cases.append({"name": case["name"], "file": file, "adapter": case["adapter"], "reference": "cases/adapter_reference.png", "reference_type": case["reference_type"],
                      "reference_strength": case["reference_strength"], "factors": case["factors"] and dict(zip(names, factors)), "prompt": run["prompt"], "negative_prompt": run["negative_prompt"],
                      "height": case["height"], "width": case["width"], "steps": 4, "guidance": 6.0, "seeds": [42], "scheduler": "euler"})
        without = pipe(**run, generator=torch.Generator().manual_seed(42), output_type="np").images
        print(case["name"], "tokens", [*tokens.shape], "changes the picture by up to", np.abs(image - without).max())
    compact = lambda entries: "[\n  " + ",\n  ".join(json.dumps(entry) for entry in entries) + "\n ]"
    files = ",\n ".join(f'"{name}": {compact(entries)}' for name, entries in recipes.items())
    (KIT / "adapters.json").write_text(f'{{"vision": {json.dumps(VISION)},\n "cases": {compact(cases)},\n "weights": {{\n {files}}}}}\n')


if __name__ == "__main__":
    main()
