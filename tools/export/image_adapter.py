"""What a trained adapter adds to an export: the UNet's image attention, the graph that makes tokens of a picture, the table of modes."""

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
    """latent_sample [B, C, size, size], the scaled mean of the VAE's encoder -> ip_tokens [B, tokens, cross-attention width]."""
    size: int
    tokens: int
    arguments: Callable
    """(ip_tokens, ip_scale, sample) -> what the UNet's attention processors are called with."""
    tables: dict
    """`adapter.json`: layer names in the order of `ip_scale`, factor per layer for each mode at strength 1."""


def load_adapter(folder: Path, pipe) -> ImageAdapter:
    """Puts the folder's weights into the pipeline's UNet, tuned ones included, and builds the picture's graph."""
    from adapter import TOKENS, ReferenceTokens, install_pocket, load_weights, picture_arguments

    weights = load_weights(folder)
    install_pocket(pipe.unet)
    pipe.unet.load_state_dict(weights["unet"], strict=True)
    tokens = ReferenceTokens(pipe.unet.config.cross_attention_dim, pipe.unet.config.in_channels)
    tokens.load_state_dict(weights["reference_tokens"], strict=True)
    # its fused inference kernel has no ONNX form
    torch.backends.mha.set_fastpath_enabled(False)
    for module in (pipe.unet, tokens):
        module.requires_grad_(False).eval()
    return ImageAdapter(tokens, pipe.unet.config.sample_size, TOKENS, picture_arguments, json.loads((folder / "adapter.json").read_text()))
