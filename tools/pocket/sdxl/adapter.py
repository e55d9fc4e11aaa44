"""The pocket SDXL's image adapter: a reference becomes tokens, which the cross-attention layers take in beside the text.

A group of layers serves each mode, so the factors per layer (`ip_scale`) select the mode; with all factors 0, or with zero tokens, the model is
the plain one. Style and character attend to 16 tokens (tools/export/ip_attention.py). At 8x8 and 4x4 a query hardly knows its own place, so
composition does not attend: its 64 tokens lie on a grid over the picture, and every place takes the token that lies on it.
"""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "export"))
from ip_attention import IpAttention, install, layer_names  # noqa: E402

ATTENDED, GRID, WIDTH = 16, 8, 160
TOKENS = ATTENDED + GRID * GRID

# the layers each mode listens through, by module path; the 8x8 levels are down_blocks.1 and up_blocks.1, the others are 4x4
LAYERS = {
    "composition": ["down_blocks.1.attentions.0", "down_blocks.2.attentions.1", "up_blocks.0.attentions.0", "up_blocks.1.attentions.0"],
    "style": ["down_blocks.1.attentions.1", "up_blocks.0.attentions.1", "up_blocks.1.attentions.1"],
    "character": ["down_blocks.2.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.2", "up_blocks.1.attentions.2"],
}


class PlacedAttention(IpAttention):
    """Adds the grid token of a query's own place instead of attending."""

    def __init__(self, level, width=0, source=0, index=None):
        super().__init__(width, source, index)
        self.level = level
        del self.to_k_ip

    def see(self, q, heads, ip_tokens):
        return self.to_v_ip(ip_tokens[self.level])


class PocketAttention(IpAttention):
    """Attends to the tokens that have no place."""

    def see(self, q, heads, ip_tokens):
        return super().see(q, heads, ip_tokens["attended"])


def picture_arguments(ip_tokens, ip_scale, sample):
    """What the processors are called with: the attended tokens, and the grid at the sizes of the levels (a half and a quarter of the latents')."""
    grid = ip_tokens[:, ATTENDED:].transpose(1, 2).unflatten(2, (GRID, GRID))
    resize = lambda level: F.interpolate(grid, size=(sample.shape[2] // level, sample.shape[3] // level), mode="bilinear").flatten(2).transpose(1, 2)
    return {"ip_tokens": {"attended": ip_tokens[:, :ATTENDED], 2: resize(2), 4: resize(4)}, "ip_scale": ip_scale}


def install_pocket(unet) -> None:
    placed = tuple(f"{path}." for path in LAYERS["composition"])
    level = lambda path: 2 if path.startswith(("down_blocks.1.", "up_blocks.1.")) else 4
    install(unet, lambda path: partial(PlacedAttention, level(path)) if path.startswith(placed) else PocketAttention)


class ReferenceTokens(nn.Module):
    """Scaled latents of a reference [B, 4, 16, 16] -> tokens [B, 16 + 64, out]: of 4x4 patches that know of each other, and of 2x2 places."""

    def __init__(self, out, channels=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.SiLU(),
                                  nn.Conv2d(128, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1))
        self.place = nn.Parameter(torch.randn(1, ATTENDED, WIDTH) * 0.1)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 5, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, out)
        self.out_norm = nn.LayerNorm(out)
        self.grid = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 96, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(96, out, 3, padding=1))
        self.grid_norm = nn.LayerNorm(out)

    def forward(self, latents):
        x = self.body(latents).flatten(2).transpose(1, 2) + self.place
        for layer in self.layers:
            x = layer(x)
        return torch.cat([self.out_norm(self.project(self.norm(x))), self.grid_norm(self.grid(latents).flatten(2).transpose(1, 2))], 1)


def layer_tables(unet) -> dict:
    """`adapter.json`: names in the order of `ip_scale`, and each mode's factor per layer at strength 1."""
    names = layer_names(unet)
    tables = {mode: {name: 1.0 for name in names if any(name.startswith(f"{path}.") for path in paths)} for mode, paths in LAYERS.items()}
    assert all(len(table) == len(LAYERS[mode]) for mode, table in tables.items())
    return {"layers": names, "types": tables}


def mode_scales(unet, mode, strength=1.0) -> torch.Tensor:
    """[layers]"""
    tables = layer_tables(unet)
    return torch.tensor([tables["types"].get(mode, {}).get(name, 0.0) * strength for name in tables["layers"]])


def load_weights(folder) -> dict:
    """What assemble.py and recover.py wrote: {"unet": …, "reference_tokens": …}, float32."""
    from safetensors.torch import load_file

    parts = {"unet": {}, "reference_tokens": {}}
    for file in sorted(folder.glob("weights-*.safetensors")):
        for name, value in load_file(file).items():
            kind, rest = name.split(".", 1)
            parts[kind][rest] = value.float()
    return parts
