#!/usr/bin/env python3
"""Exports a tiny random SDXL UNet with an IP-Adapter file and compares graphs and layer factors with diffusers' own IP-Adapter.

    python tools/export/check_ip_adapter.py
"""

import copy
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from common import compare_values, export_graph, run_graph
from image_adapter import CLIP_MEAN, CLIP_STD, load_adapter
from ip_attention import layer_names
from sdxl import ExportUnet

TOKENS, WIDTH, EMBEDDING, SIZE = 4, 64, 24, 32


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(5)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, transformer_layers_per_block=(1, 2), norm_num_groups=8, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=WIDTH,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=48 + 32, use_linear_projection=True,
    ).requires_grad_(False).eval()


def random_adapter(unet) -> dict:
    """The names and shapes of the published file: a projection, then keys and values of every cross-attention, numbered 1, 3, 5 …"""
    modules = dict(unet.named_modules())
    layers = {f"ip_adapter.{2 * i + 1}.{kind}.weight": torch.randn(modules[name].inner_dim, WIDTH) * 0.2 for i, name in enumerate(layer_names(unet)) for kind in ("to_k_ip", "to_v_ip")}
    return {"image_proj.proj.weight": torch.randn(TOKENS * WIDTH, EMBEDDING), "image_proj.proj.bias": torch.randn(TOKENS * WIDTH), "image_proj.norm.weight": torch.rand(WIDTH), "image_proj.norm.bias": torch.randn(WIDTH), **layers}


def of_diffusers(unet, adapter: dict, scales: list):
    """UNet with diffusers' own processors; `scales` in the order of its cross-attention layers."""
    part = lambda prefix: {name.removeprefix(prefix): value for name, value in adapter.items() if name.startswith(prefix)}
    unet._load_ip_adapter_weights([{"image_proj": part("image_proj."), "ip_adapter": part("ip_adapter.")}])
    processors = [processor for processor in unet.attn_processors.values() if hasattr(processor, "scale")]
    for processor, scale in zip(processors, scales, strict=True):
        processor.scale = [scale]
    return unet


def main() -> int:
    unet = tiny_unet()
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=SIZE, patch_size=8, projection_dim=EMBEDDING)).eval()
    weights = random_adapter(unet)
    scales = [0.1 + 0.3 * i for i in range(len(layer_names(unet)))]
    inputs = {"sample": torch.randn(2, 4, 16, 16), "timestep": torch.tensor(501.0), "encoder_hidden_states": torch.randn(2, 77, WIDTH), "text_embeds": torch.randn(2, 32), "time_ids": torch.rand(2, 6) * 100}
    picture = torch.rand(2, 3, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        folder = Path(folder)
        save_file(weights, folder / "adapter.safetensors")
        vision.save_pretrained(folder / "clip")
        pipe = SimpleNamespace(unet=copy.deepcopy(unet))
        adapter = load_adapter(folder / "adapter.safetensors", folder / "clip", pipe)
        export_graph(adapter.encoder, {adapter.example[0]: adapter.example[1]}, adapter.outputs, folder / "image_encoder.onnx", {name: {0: "batch"} for name in (adapter.example[0], *adapter.outputs)})
        tokens = run_graph(folder / "image_encoder.onnx", {"sample": picture * 2 - 1})
        graph_inputs = {**inputs, "ip_tokens": torch.from_numpy(tokens[0]), "ip_scale": torch.tensor([scales, scales])}
        export_graph(ExportUnet(pipe.unet, adapter.arguments), graph_inputs, ["out_sample"], folder / "unet.onnx", {})
        drawn = run_graph(folder / "unet.onnx", graph_inputs)

        embeds = vision((picture - torch.tensor(CLIP_MEAN).view(1, 3, 1, 1)) / torch.tensor(CLIP_STD).view(1, 3, 1, 1)).image_embeds
        reference = of_diffusers(unet, weights, scales)
        projected = reference.encoder_hid_proj.image_projection_layers[0]
        conditions = {"text_embeds": inputs["text_embeds"], "time_ids": inputs["time_ids"], "image_embeds": [embeds.unsqueeze(1)]}
        expected = reference(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], added_cond_kwargs=conditions, return_dict=False)[0]
        agree = compare_values("tokens", tokens[:2], [projected(embeds), projected(torch.zeros_like(embeds))], 100)
        agree &= compare_values("unet", drawn, [expected], 100)
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
