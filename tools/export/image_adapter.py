"""What an adapter adds to an export: the UNet's image attention, the graph that makes tokens of a picture, the table of modes."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "pocket/sdxl"))


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


def load_adapter(folder: Path, pipe, attend=None) -> ImageAdapter:
    """Puts the weights of the `adapter` folder of a trained pocket model (tools/pocket/assemble.py) into the pipeline's UNet and builds the picture's graph."""
    adapter = load_pocket(folder, pipe)
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
