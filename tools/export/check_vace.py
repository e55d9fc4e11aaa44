#!/usr/bin/env python3
"""Exports a tiny random VACE transformer and compares the graph with diffusers, at the traced size and at another one.

    python tools/export/check_vace.py
"""

import tempfile
from pathlib import Path

import torch
from diffusers import WanVACETransformer3DModel

from common import compare
from wan import FP16_AGREES, FP32_AGREES, export_transformer


def tiny_vace() -> WanVACETransformer3DModel:
    torch.manual_seed(3)
    return WanVACETransformer3DModel(
        num_attention_heads=4, attention_head_dim=24, text_dim=32, freq_dim=32, ffn_dim=192, num_layers=4, vace_layers=[0, 2], vace_in_channels=96,
    ).requires_grad_(False).eval()


def main() -> int:
    agree = True
    for precision, least in (("fp32", FP32_AGREES), ("fp16-stored", FP16_AGREES), ("fp16", FP16_AGREES)):
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            agree &= export_transformer(tiny_vace(), Path(folder), precision, check=True)
            other = {
                "hidden_states": torch.randn(1, 16, 5, 12, 6), "timestep": torch.tensor([37]), "encoder_hidden_states": torch.randn(1, 512, 32),
                "control_hidden_states": torch.randn(1, 96, 5, 12, 6), "control_hidden_states_scale": torch.tensor([0.0, 2.0]),
            }
            model = tiny_vace()
            reference = lambda x, t, text, control, scale: model(x, t, text, None, control, scale, return_dict=False)[0]
            agree &= compare(f"another size, {precision}", Path(folder) / "transformer" / "model.onnx", reference, other, least)
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
