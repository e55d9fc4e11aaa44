"""What an adapter adds to an export: the UNet's image attention, the graph that makes tokens of a picture, the table of modes."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import nn

from ip_attention import install, layer_names

sys.path.append(str(Path(__file__).parents[1] / "pocket/sdxl"))

# CLIP's own normalisation of pictures in [0, 1]
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass
class ImageAdapter:
    encoder: nn.Module
    example: tuple
    """(name, tensor): `sample` [B, 3, S, S] in [-1, 1], or `latent_sample`, the scaled mean of the VAE's encoder."""
    outputs: list
    """`ip_tokens` [B, tokens, cross-attention width], and `empty_ip_tokens` where an absent picture is not zeros."""
    tokens: int
    arguments: Callable
    """(ip_tokens, ip_scale, sample) -> what the UNet's attention processors are called with."""
    tables: dict
    """`adapter.json`: layer names in the order of `ip_scale`, factor per layer for each mode at strength 1."""


class ClipTokens(nn.Module):
    """CLIP's image embedding through IP-Adapter's projection; the unconditional side projects zeros, as diffusers does."""

    def __init__(self, vision, weights, width):
        super().__init__()
        self.vision, self.width = vision, width
        features = weights["proj.weight"]
        self.project = nn.Linear(features.shape[1], features.shape[0])
        self.norm = nn.LayerNorm(width)
        self.load_state_dict({**{f"vision.{k}": v for k, v in vision.state_dict().items()}, "project.weight": features, "project.bias": weights["proj.bias"], "norm.weight": weights["norm.weight"], "norm.bias": weights["norm.bias"]})
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)

    def tokens_of(self, embeds):
        return self.norm(self.project(embeds).reshape(embeds.shape[0], -1, self.width))

    def forward(self, sample):
        embeds = self.vision((sample * 0.5 + 0.5 - self.mean) / self.std).image_embeds
        return self.tokens_of(embeds), self.tokens_of(torch.zeros_like(embeds))


def load_adapter(path: Path, vision: Path | None, pipe, attend=None) -> ImageAdapter:
    """Puts the adapter's weights into the pipeline's UNet and builds the picture's graph.

    `path`: the `adapter` folder of a trained pocket model (tools/pocket/assemble.py), or IP-Adapter's .safetensors for SDXL (the kind with one global embedding:
    `ip-adapter_sdxl_vit-h`), which needs `vision`, the folder of its CLIP image encoder.
    """
    adapter = load_pocket(path, pipe) if path.is_dir() else load_ip_adapter(path, vision, pipe)
    if attend is not None:
        for processor in pipe.unet.attn_processors.values():
            processor.attend = attend
    # the encoder layer's fused inference kernel has no ONNX form
    torch.backends.mha.set_fastpath_enabled(False)
    for module in (pipe.unet, adapter.encoder):
        module.requires_grad_(False).eval()
    return adapter


def load_pocket(folder: Path, pipe) -> ImageAdapter:
    """The UNet's own weights come from the folder too: it was tuned with the adapter."""
    from adapter import TOKENS, ReferenceTokens, install_pocket, load_weights, picture_arguments

    weights = load_weights(folder)
    config = pipe.unet.config
    install_pocket(pipe.unet)
    pipe.unet.load_state_dict(weights["unet"], strict=True)
    tokens = ReferenceTokens(config.cross_attention_dim, config.in_channels)
    tokens.load_state_dict(weights["reference_tokens"], strict=True)
    example = ("latent_sample", torch.randn(1, config.in_channels, config.sample_size, config.sample_size))
    return ImageAdapter(tokens, example, ["ip_tokens"], TOKENS, picture_arguments, json.loads((folder / "adapter.json").read_text()))


def load_ip_adapter(file: Path, vision: Path, pipe) -> ImageAdapter:
    from safetensors.torch import load_file
    from transformers import CLIPVisionModelWithProjection

    weights = {name: value.float() for name, value in load_file(file).items()}
    part = lambda prefix: {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    projection = part("image_proj.")
    if "proj.weight" not in projection:
        raise ValueError(f"{file} has another projection than the global one (proj, norm): {', '.join(sorted(projection)[:4])} …")
    install(pipe.unet)
    names = layer_names(pipe.unet)
    # its layers are numbered 1, 3, 5 … in the order of the UNet's processors
    layers = {f"{name}.processor.{kind}.weight": weights[f"ip_adapter.{2 * i + 1}.{kind}.weight"] for i, name in enumerate(names) for kind in ("to_k_ip", "to_v_ip")}
    pipe.unet.load_state_dict({**pipe.unet.state_dict(), **layers}, strict=True)
    encoder = ClipTokens(CLIPVisionModelWithProjection.from_pretrained(vision, torch_dtype=torch.float32), projection, pipe.unet.config.cross_attention_dim)
    size = encoder.vision.config.image_size
    return ImageAdapter(encoder, ("sample", torch.rand(1, 3, size, size) * 2 - 1), ["ip_tokens", "empty_ip_tokens"], projection["proj.weight"].shape[0] // pipe.unet.config.cross_attention_dim,
                        lambda ip_tokens, ip_scale, sample: {"ip_tokens": ip_tokens, "ip_scale": ip_scale}, instant_style(names))


def instant_style(names: list) -> dict:
    """InstantStyle (arXiv 2404.02733): one block of SDXL carries the layout, another the style; a character is taken by every layer, more softly."""
    inside = lambda path: {name: 1.0 for name in names if name.startswith(path)}
    return {"layers": names, "types": {"composition": inside("down_blocks.2.attentions.1."), "style": inside("up_blocks.0.attentions.1."), "character": dict.fromkeys(names, 0.6)}}
