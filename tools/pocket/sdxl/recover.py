"""Writes the shipped ONNX folder back as the diffusers folder it was exported from, so that training can go on from it.

    python tools/pocket/sdxl/recover.py --model models/pocket/sdxl --out DIR

Matrices lose their names in the graph, but the node that multiplies with one is named after its module.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper


def weights_of(path: Path, prefix: str) -> dict:
    """Parameter name -> tensor; `prefix` is what the exported module calls the model ("unet.")."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor).astype(np.float32) for tensor in graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast" and node.input[0] in stored}
    found = {}
    for node in graph.node:
        if node.output[0] in source:
            continue
        for name in node.input:
            key = source.get(name, name)
            if key not in stored:
                continue
            value = torch.from_numpy(stored[key])
            module = node.name.strip("/").replace("/", ".")
            if not key.startswith("onnx::"):
                found[key.removesuffix("_fp16").removeprefix(prefix)] = value
            elif node.op_type == "MatMul":
                found[module.removesuffix(".MatMul").removeprefix(prefix) + ".weight"] = value.T.contiguous()
            elif node.op_type in ("Mul", "Add"):
                # a group normalisation's factors, shaped to be multiplied with a picture
                found[module.rsplit(".", 1)[0].removeprefix(prefix) + (".weight" if node.op_type == "Mul" else ".bias")] = value.flatten()
            else:
                raise ValueError(f"{node.name}: a weight without a name in a {node.op_type}")
    return found


def text_names(weights: dict, projected: bool) -> dict:
    """The text towers' names in transformers: the exported module calls its parts one after another, numbered from the second on."""
    named = {}
    for name, value in weights.items():
        call = re.fullmatch(r"(?:(mlp)\.)?(q_proj|k_proj|v_proj|out_proj|fc1|fc2)(?:_(\d+))?\.weight", name)
        if call:
            name = f"layers.{call[3] or 0}.{'mlp' if call[1] else 'self_attn'}.{call[2]}.weight"
        name = name.replace("final_norm.", "final_layer_norm.")
        if name == "projection.weight":
            named["text_projection.weight"] = value
            continue
        named[("text_model." if projected else "") + ("encoder." if name.startswith("layers.") else "") + name] = value
    return named


def load_exactly(model, weights: dict):
    """Every matrix, and no name the model does not have.

    The exporter stores equal tensors once: zeros and ones that training never moved (the first encoder's last layer, which SDXL
    does not use) are missing, and are what a new model holds.
    """
    missing, unknown = model.load_state_dict(weights, strict=False)
    moved = [name for name in missing if model.state_dict()[name].dim() != 1]
    if moved or unknown:
        raise ValueError(f"not recovered: {moved}, not known: {unknown}")
    return model.eval()


def recover(folder: Path, out: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = lambda name: json.loads((folder / name / "config.json").read_text())
    unet = load_exactly(UNet2DConditionModel.from_config(config("unet")), weights_of(folder / "unet/model.onnx", "unet."))
    vae = load_exactly(AutoencoderKL.from_config(config("vae_decoder")), {**weights_of(folder / "vae_encoder/model.onnx", "vae."), **weights_of(folder / "vae_decoder/model.onnx", "vae.")})
    unet.half().save_pretrained(out / "unet", max_shard_size="12MB")
    vae.half().save_pretrained(out / "vae")
    for name, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
        projected = name == "text_encoder_2"
        load_exactly(kind(CLIPTextConfig.from_dict(config(name))), text_names(weights_of(folder / name / "model.onnx", ""), projected)).half().save_pretrained(out / name)
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        shutil.copytree(folder / name, out / name, dirs_exist_ok=True)
    entry = json.loads((folder / "model_index.json").read_text())
    (out / "model_index.json").write_text(json.dumps(entry, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/pocket/sdxl"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recover(options.model, options.out)
