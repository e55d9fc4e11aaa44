#!/usr/bin/env python3
"""Converts an SDXL checkpoint (diffusers folder or one .safetensors file) to the worker's ONNX layout.

    python tools/export/sdxl.py --model stable-diffusion-xl-base-1.0 --out models/sdxl --fp16-stored --check

Needs torch, diffusers, transformers, onnx, onnxruntime. See docs/models.md.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from torch import nn

from clip_text import ExportTextEncoder
from common import FusedAttention, compare_values, export_graph, forget_origin, run_graph, store_fp16
from image_adapter import load_adapter


GRAPHS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder", "image_encoder")


class FusedAttentionProcessor:
    """diffusers' attention with the fused operator; self- and cross-attention alike."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        y = FusedAttention.apply(attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context), attn.heads)
        return attn.to_out[1](attn.to_out[0](y))


class Float32Norm(nn.Module):
    """A normalisation that computes in float32 between fp16 neighbours: group sums overflow fp16."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm.float()

    def forward(self, x):
        return self.norm(x.float()).to(x.dtype)


def halve(module) -> None:
    """fp16 matrices and convolutions, float32 norms; in place."""
    module.half()
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, (nn.GroupNorm, nn.LayerNorm)):
                setattr(parent, name, Float32Norm(child))


class ExportUnet(nn.Module):
    """float32 at the border, whatever the weights' type is."""

    def __init__(self, unet, picture_arguments=None):
        super().__init__()
        self.unet, self.picture_arguments = unet, picture_arguments

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds, time_ids, ip_tokens=None, ip_scale=None):
        inner = self.unet.conv_in.weight.dtype
        condition = {"text_embeds": text_embeds.to(inner), "time_ids": time_ids.to(inner)}
        picture = None if ip_tokens is None else self.picture_arguments(ip_tokens.to(inner), ip_scale.to(inner), sample)
        return self.unet(sample.to(inner), timestep, encoder_hidden_states=encoder_hidden_states.to(inner), added_cond_kwargs=condition, cross_attention_kwargs=picture, return_dict=False)[0].float()


class ExportDecoder(nn.Module):
    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample):
        return self.vae.decode(latent_sample, return_dict=False)[0]


class ExportEncoder(nn.Module):
    """Mean and log variance on the channel axis; sampling is the caller's, so that it follows the seed."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae

    def forward(self, sample):
        moments = self.vae.encoder(sample)
        return self.vae.quant_conv(moments) if self.vae.quant_conv is not None else moments


def parts_of(pipe, adapter=None) -> dict:
    """Graph name -> (module, example inputs, output names, dynamic axes). With an adapter the UNet takes `ip_tokens` and `ip_scale`."""
    unet, latent = pipe.unet, pipe.unet.config.sample_size
    channels, scale = unet.config.in_channels, 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    pooled = pipe.text_encoder_2.config.projection_dim
    size = min(latent, 32)
    ids = torch.randint(0, pipe.text_encoder.config.vocab_size, (2, pipe.tokenizer.model_max_length))
    ids[:, 0], ids[:, -1] = pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id
    mask = torch.ones_like(ids)
    mask[1, 3:6] = 0
    text = {"input_ids": ids, "attention_mask": mask}
    text_axes = lambda names: {name: {0: "batch", 1: "sequence"} if name.startswith(("input", "attention", "hidden", "last")) else {0: "batch"} for name in names}
    image_axes = {0: "batch", 2: "height", 3: "width"}
    encoders = {name: ExportTextEncoder(getattr(pipe, name)) for name in ("text_encoder", "text_encoder_2")}
    parts = {name: (module, text, module.output_names, text_axes([*text, *module.output_names])) for name, module in encoders.items()}
    parts["unet"] = (
        ExportUnet(unet, adapter and adapter.arguments),
        {
            "sample": torch.randn(2, channels, size, size), "timestep": torch.tensor(501.0),
            "encoder_hidden_states": torch.randn(2, 77, unet.config.cross_attention_dim), "text_embeds": torch.randn(2, pooled),
            "time_ids": torch.tensor([[size * scale, size * scale, 0, 0, size * scale, size * scale]] * 2, dtype=torch.float32),
        },
        ["out_sample"],
        {"sample": image_axes, "out_sample": image_axes, "encoder_hidden_states": {0: "batch", 1: "sequence"}, "text_embeds": {0: "batch"}, "time_ids": {0: "batch"}},
    )
    if adapter is not None:
        _, inputs, _, dynamic = parts["unet"]
        inputs |= {"ip_tokens": torch.randn(2, adapter.tokens, unet.config.cross_attention_dim), "ip_scale": torch.rand(2, len(adapter.tables["layers"]))}
        dynamic |= {"ip_tokens": {0: "batch"}, "ip_scale": {0: "batch"}}
        name, example = adapter.example
        parts["image_encoder"] = (adapter.encoder, {name: example}, adapter.outputs, {key: {0: "batch"} for key in (name, *adapter.outputs)})
    parts["vae_decoder"] = (ExportDecoder(pipe.vae), {"latent_sample": torch.randn(1, channels, size, size)}, ["sample"], {"latent_sample": image_axes, "sample": image_axes})
    parts["vae_encoder"] = (ExportEncoder(pipe.vae), {"sample": torch.rand(1, 3, size * scale, size * scale) * 2 - 1}, ["latent_parameters"], {"sample": image_axes, "latent_parameters": image_axes})
    return parts


def write_configs(pipe, source: Path, out: Path) -> None:
    """The config files the worker reads; tokenizer files are copied as they are."""
    pipe.save_config(out)
    for name in ("text_encoder", "text_encoder_2", "unet"):
        (out / name).mkdir(parents=True, exist_ok=True)
        config = getattr(pipe, name).config
        (out / name / "config.json").write_text(json.dumps(config.to_dict() if hasattr(config, "to_dict") else dict(config), indent=2, default=str) + "\n")
    for name in ("vae_decoder", "vae_encoder"):
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name / "config.json").write_text(json.dumps(dict(pipe.vae.config), indent=2, default=str) + "\n")
    pipe.scheduler.save_pretrained(out / "scheduler")
    forget_origin(out)
    for name in ("tokenizer", "tokenizer_2"):
        if (source / name).is_dir():
            shutil.copytree(source / name, out / name, dirs_exist_ok=True)
        else:
            getattr(pipe, name).save_pretrained(str(out / name))
        write_vocabulary(getattr(pipe, name), out / name)


def write_vocabulary(tokenizer, folder: Path) -> None:
    """vocab.json and merges.txt where only tokenizer.json is: transformers 5 saves no more than that."""
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="diffusers folder or one .safetensors file")
    parser.add_argument("--config", type=Path, help="diffusers folder whose configs and tokenizers a single file is read with; without it they come from the hub")
    parser.add_argument("--variant", help="which weights of a diffusers folder, e.g. fp16")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--fp16-stored", nargs="*", metavar="PART", help="weights fp16 on disk, arithmetic fp32: these graphs, or all when none is named")
    parser.add_argument("--fp16", action="store_true", help="the UNet computes in fp16 with float32 norms (GPU); the other graphs are stored as fp16")
    parser.add_argument("--fused-attention", action="store_true", help="com.microsoft.MultiHeadAttention in the UNet (GPU providers)")
    parser.add_argument("--adapter", type=Path, help="references through image tokens: the `adapter` folder of a trained pocket model (tools/pocket/assemble.py)")
    parser.add_argument("--check", action="store_true", help="compare every graph with torch and fail under 50 dB (fp16 arithmetic: 40)")
    options = parser.parse_args()

    from diffusers import StableDiffusionXLPipeline  # here, so that what is exported may also be built without a pipeline

    if options.model.suffix == ".safetensors":
        pipe = StableDiffusionXLPipeline.from_single_file(str(options.model), torch_dtype=torch.float32, **({} if options.config is None else {"config": str(options.config)}))
    else:
        pipe = StableDiffusionXLPipeline.from_pretrained(str(options.model), torch_dtype=torch.float32, variant=options.variant)
    for module in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        module.requires_grad_(False).eval()
    adapter = None
    if options.adapter is not None:
        adapter = load_adapter(options.adapter, pipe, FusedAttention.apply if options.fused_attention else None)
    elif options.fused_attention:
        pipe.unet.set_attn_processor(FusedAttentionProcessor())
    write_configs(pipe, options.config or options.model, options.out)
    if adapter is not None:
        (options.out / "adapter.json").write_text(json.dumps(adapter.tables, indent=1) + "\n")
    stored = [] if options.fp16_stored is None else options.fp16_stored or list(GRAPHS)
    return 0 if export_parts(pipe, options.out, stored, options.fp16, options.check, adapter=adapter) else 1


def export_parts(pipe, out: Path, stored: list, fp16: bool, check: bool, say=lambda text: None, adapter=None) -> bool:
    """Writes the graphs; `stored` names those with fp16 on disk. With `fp16` the UNet computes in it, the others are stored so."""
    agree = True
    for name, (module, inputs, outputs, axes) in parts_of(pipe, adapter).items():
        path = out / name / "model.onnx"
        computed = fp16 and name == "unet"
        with torch.no_grad():
            expected = module(*inputs.values()) if check else ()
        if computed:
            halve(module)
        export_graph(module, inputs, outputs, path, axes)
        if (fp16 or name in stored) and not computed:
            store_fp16(path)
        if check:
            agree &= compare_values(name, run_graph(path, inputs), expected if isinstance(expected, tuple) else (expected,), 40 if computed else 50)
        say(f"{name} exported")
    return agree


if __name__ == "__main__":
    raise SystemExit(main())
