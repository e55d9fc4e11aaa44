"""The pocket SDXL's image adapter: a reference becomes 16 tokens, which every cross-attention layer may attend to beside the text.

Decoupled cross-attention (tools/export/ip_attention.py): a group of layers
serves each mode, so the factors per layer select the mode; with all factors 0, or with zero tokens, the model is the plain one.
"""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.append(str(Path(__file__).parents[2] / "export"))
from ip_attention import install, layer_names  # noqa: E402, F401

TOKENS, WIDTH = 16, 160

# the layers each mode listens through, by module path; the 8x8 levels are down_blocks.1 and up_blocks.1, the others are 4x4
LAYERS = {
    "composition": ["down_blocks.1.attentions.0", "down_blocks.2.attentions.1", "up_blocks.0.attentions.0", "up_blocks.1.attentions.0"],
    "style": ["down_blocks.1.attentions.1", "up_blocks.0.attentions.1", "up_blocks.1.attentions.1"],
    "character": ["down_blocks.2.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.2", "up_blocks.1.attentions.2"],
}


class ReferenceTokens(nn.Module):
    """Scaled latents of a reference [B, 4, 16, 16] -> tokens [B, 16, out], one per 4x4 patch of them."""

    def __init__(self, out, channels=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.SiLU(),
                                  nn.Conv2d(128, WIDTH, 3, padding=1), nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1))
        self.place = nn.Parameter(torch.randn(1, TOKENS, WIDTH) * 0.1)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 5, 2 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, out)
        self.out_norm = nn.LayerNorm(out)

    def forward(self, latents):
        x = self.body(latents).flatten(2).transpose(1, 2) + self.place
        for layer in self.layers:
            x = layer(x)
        return self.out_norm(self.project(self.norm(x)))


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
    """What train_adapter.py saved: {"unet": …, "reference_tokens": …}, float32."""
    from safetensors.torch import load_file

    parts = {"unet": {}, "reference_tokens": {}}
    for file in sorted(folder.glob("weights-*.safetensors")):
        for name, value in load_file(file).items():
            kind, rest = name.split(".", 1)
            parts[kind][rest] = value.float()
    return parts
