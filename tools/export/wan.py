#!/usr/bin/env python3
"""Converts a Wan 2.1 checkpoint (diffusers folder: T2V or VACE) to the worker's ONNX layout.

    python tools/export/wan.py --model Wan2.1-T2V-1.3B-Diffusers --out models/wan2.1-t2v-1.3b --fp16 --check

Needs torch, diffusers, transformers, onnx, onnxruntime. See docs/export.md for the graphs' names and shapes.
"""

import argparse
import json
import shutil
from pathlib import Path

import onnx
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel, WanVACETransformer3DModel
from torch import nn
from transformers import UMT5EncoderModel

from common import compare_values, export_graph, forget_origin, run_graph, share_weights, store_fp16
from umt5_text import ExportUmt5Encoder
from wan_transformer import ExportTransformer
from wan_vae import StreamingDecoder, StreamingEncoder

PARTS = ("text_encoder", "transformer", "vae_decoder", "vae_encoder")
# in decibels: fp32 graphs, and fp16 arithmetic on random or trained weights
FP32_AGREES, FP16_AGREES = 80, 40


def export_text_encoder(folder: Path, out: Path, precision: str, check: bool) -> bool:
    model = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, attn_implementation="eager").requires_grad_(False).eval()
    ids = torch.randint(2, model.config.vocab_size, (2, 512))
    mask = torch.ones_like(ids)
    ids[1, 40:], mask[1, 40:] = 0, 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    expected = model(**inputs).last_hidden_state if check else None
    module = ExportUmt5Encoder(model)
    axes = {name: {0: "batch", 1: "sequence"} for name in [*inputs, "last_hidden_state"]}
    return export_part(module, inputs, ["last_hidden_state"], axes, out / "text_encoder" / "model.onnx", precision, expected)


def export_transformer(model: nn.Module, out: Path, precision: str, check: bool) -> bool:
    """`model`: diffusers' WanTransformer3DModel or WanVACETransformer3DModel; its matrices are halved in place when precision is "fp16"."""
    config = model.config
    inputs = {
        "hidden_states": torch.randn(2, config.in_channels, 2, 8, 10), "timestep": torch.tensor([999, 500]),
        "encoder_hidden_states": torch.randn(2, 24, config.text_dim),
    }
    if config.get("vace_layers"):
        inputs["control_hidden_states"] = torch.randn(2, config.vace_in_channels, 2, 8, 10)
        inputs["control_hidden_states_scale"] = torch.linspace(0.5, 1.5, len(config.vace_layers))
    expected = model(**inputs, return_dict=False)[0] if check else None
    volume = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    axes = {"hidden_states": volume, "sample": volume, "control_hidden_states": volume, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}}
    axes = {name: value for name, value in axes.items() if name in (*inputs, "sample")}
    return export_part(ExportTransformer(model), inputs, ["sample"], axes, out / "transformer" / "model.onnx", precision, expected)


def export_part(module, inputs: dict, outputs: list, axes: dict, path: Path, precision: str, expected) -> bool:
    """`precision`: fp32, fp16-stored (fp16 on disk, fp32 arithmetic) or fp16. `expected` None: not compared."""
    if precision == "fp16":
        module.halve()
    export_graph(module, inputs, outputs, path, axes)
    if precision == "fp16-stored":
        store_fp16(path)
    return expected is None or compare_values(path.parent.name, run_graph(path, inputs), (expected,), FP32_AGREES if precision == "fp32" else FP16_AGREES)


def export_vae_half(half: nn.Module, chunks: tuple, names: tuple, folder: Path, precision: str) -> None:
    """Writes init.onnx (first chunk) and step.onnx (chunk and caches c0… in, nc0… out) over one file of weights."""
    given, result = names
    first, later = chunks
    with torch.no_grad():
        caches = half(first)[1:]
    new = [f"nc{i}" for i in range(len(caches))]
    plane = {2: "height", 3: "width"}
    axes = {given: plane, result: {2: "out_height", 3: "out_width"}}
    # every cache lives at a resolution of its own
    axes |= {f"{prefix}{i}": {2: f"height_{i}", 3: f"width_{i}"} for prefix in ("c", "nc") for i in range(len(caches))}
    steps = {given: later} | {f"c{i}": cache for i, cache in enumerate(caches)}
    for name, inputs in (("init", {given: first}), ("step", steps)):
        path = folder / f"{name}.onnx"
        export_graph(half, inputs, [result, *new], path, {key: value for key, value in axes.items() if key in (*inputs, result, *new)})
        state_frames(path, half, inputs)
        if precision != "fp32":
            store_fp16(path)
    share_weights([folder / "init.onnx", folder / "step.onnx"], "weights.onnx_data")


def state_frames(path: Path, half, inputs: dict) -> None:
    """Writes the outputs' frame counts, which tracing leaves unnamed, into the graph's signature."""
    with torch.no_grad():
        values = half(*inputs.values())
    model = onnx.load(str(path))
    for output, value in zip(model.graph.output, values, strict=True):
        output.type.tensor_type.shape.dim[0].dim_value = value.shape[0]
    onnx.save(model, str(path))


def run_chunks(folder: Path, name: str, chunks: list) -> torch.Tensor:
    """The graphs over a whole clip, chunk by chunk, along the frame axis."""
    outputs, caches = [], None
    for chunk in chunks:
        inputs = {name: chunk} | ({} if caches is None else {f"c{i}": cache for i, cache in enumerate(caches)})
        first, *new = [torch.from_numpy(value) for value in run_graph(folder / ("init.onnx" if caches is None else "step.onnx"), inputs)]
        outputs.append(first)
        caches = new
    return torch.cat(outputs)


def export_vae(vae: nn.Module, out: Path, parts: list, precision: str, check: bool) -> bool:
    """fp16 arithmetic is not offered: like upstream the VAE computes in float32, "fp16" here means stored so."""
    frames, latent, scale = 9, torch.randn(1, vae.config.z_dim, 3, 6, 8), vae.config.scale_factor_spatial
    video = torch.rand(1, 3, frames, 6 * scale, 8 * scale) * 2 - 1
    by_frame = lambda clip: clip[0].transpose(0, 1)
    agree = True
    # 45 dB: weights rounded to fp16, values in [-1, 1]
    least = FP32_AGREES if precision == "fp32" else 45
    if "vae_decoder" in parts:
        z = by_frame(latent)
        export_vae_half(StreamingDecoder(vae), (z[:1], z[1:2]), ("latent_frame", "video_frames"), out / "vae_decoder", precision)
        if check:
            whole = by_frame(vae.decode(latent, return_dict=False)[0])
            agree &= compare_values("vae_decoder in chunks", [run_chunks(out / "vae_decoder", "latent_frame", list(z.split(1))).numpy()], [whole], least)
    if "vae_encoder" in parts:
        pixels = by_frame(video)
        export_vae_half(StreamingEncoder(vae), (pixels[:1], pixels[1:5]), ("video_frames", "latent_mean"), out / "vae_encoder", precision)
        if check:
            whole = by_frame(vae.encode(video).latent_dist.mean)
            chunks = [pixels[:1], *pixels[1:].split(4)]
            agree &= compare_values("vae_encoder in chunks", [run_chunks(out / "vae_encoder", "video_frames", chunks).numpy()], [whole], least)
    return agree


def write_configs(folder: Path, out: Path) -> None:
    """Configs and tokenizer as they are, without where they came from."""
    for target, source in (("text_encoder", "text_encoder"), ("transformer", "transformer"), ("vae_decoder", "vae"), ("vae_encoder", "vae")):
        (out / target).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / source / "config.json", out / target / "config.json")
    (out / "tokenizer").mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (folder / "tokenizer" / name).exists():
            shutil.copyfile(folder / "tokenizer" / name, out / "tokenizer" / name)
    (out / "scheduler").mkdir(exist_ok=True)
    shutil.copyfile(folder / "scheduler" / "scheduler_config.json", out / "scheduler" / "scheduler_config.json")
    shutil.copyfile(folder / "model_index.json", out / "model_index.json")
    forget_origin(out)


def transformer_class(folder: Path):
    name = json.loads((folder / "transformer" / "config.json").read_text())["_class_name"]
    classes = {"WanTransformer3DModel": WanTransformer3DModel, "WanVACETransformer3DModel": WanVACETransformer3DModel}
    if name in classes:
        return classes[name]
    raise SystemExit(f"transformer/config.json names {name}: not a class this tool exports")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="diffusers folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these graphs")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp16-stored", dest="precision", action="store_const", const="fp16-stored", default="fp32", help="weights fp16 on disk, arithmetic fp32")
    precision.add_argument("--fp16", dest="precision", action="store_const", const="fp16", help="matrices computed in fp16 (GPU); norms, modulation and VAE in fp32")
    parser.add_argument("--check", action="store_true", help="compare every graph with diffusers, the VAE in chunks with the whole clip")
    options = parser.parse_args()

    torch.manual_seed(0)
    write_configs(options.model, options.out)
    agree = True
    with torch.no_grad():
        if "text_encoder" in options.parts:
            agree &= export_text_encoder(options.model, options.out, options.precision, options.check)
        if "transformer" in options.parts:
            model = transformer_class(options.model).from_pretrained(options.model / "transformer", torch_dtype=torch.float32).requires_grad_(False).eval()
            agree &= export_transformer(model, options.out, options.precision, options.check)
            del model
        if {"vae_decoder", "vae_encoder"} & set(options.parts):
            vae = AutoencoderKLWan.from_pretrained(options.model / "vae", torch_dtype=torch.float32).requires_grad_(False).eval()
            agree &= export_vae(vae, options.out, options.parts, options.precision, options.check)
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
