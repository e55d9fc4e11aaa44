#!/usr/bin/env python3
"""Makes a tiny SDXL, saves it once as a diffusers folder and once as a single file in the original layout, exports both with
`sdxl.py` and compares the exports graph by graph with the model itself; the folder also in fp16 with fused attention.

    python tools/export/check_single_file.py --tokenizers test/parity/models/sdxl-tiny

The names of the original layout: generative-models of Stability AI, as diffusers' loaders/single_file_utils.py reads them.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import compare
from sdxl import parts_of


def tiny_sdxl(tokenizers: Path) -> StableDiffusionXLPipeline:
    torch.manual_seed(5)
    text = lambda width, layers: CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=2, projection_dim=width,
        max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407, pad_token_id=1, hidden_act="gelu")
    unet = UNet2DConditionModel(
        sample_size=16, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32, 64), layers_per_block=2, transformer_layers_per_block=(1, 1, 2), attention_head_dim=(2, 2, 4), cross_attention_dim=48,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 32)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=(32, 32, 64), layers_per_block=1, latent_channels=4, scaling_factor=0.13025)
    # ten layers: by its tenth the loader knows that a file is SDXL's
    return StableDiffusionXLPipeline(
        vae=vae, text_encoder=CLIPTextModel(text(16, 2)), text_encoder_2=CLIPTextModelWithProjection(text(32, 10)), unet=unet, scheduler=EulerDiscreteScheduler(),
        tokenizer=CLIPTokenizer.from_pretrained(tokenizers / "tokenizer"), tokenizer_2=CLIPTokenizer.from_pretrained(tokenizers / "tokenizer_2"))


RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection")]
VAE_ATTENTION = [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")]


def renamed(name: str, pairs: list) -> str:
    for new, old in pairs:
        if name.startswith(f"{new}."):
            return old + name[len(new):]
    return name


def unet_name(name: str, layers: int = 2) -> str:
    """layers: resnets a block. Every block of the original is numbered through; up blocks have one more."""
    top = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
           "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    for new, old in top.items():
        if name.startswith(f"{new}."):
            return old + name[len(new):]
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, index, rest = match.groups()
        return f"middle_block.{2 * int(index) if kind == 'resnets' else 1}.{renamed(rest, RESNET) if kind == 'resnets' else rest}"
    side, block, kind, index, rest = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name).groups()
    block, index = int(block), int(index)
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.{rest.replace('conv.', 'op.')}"
        number, prefix = 1 + block * (layers + 1) + index, "input_blocks"
    else:
        if kind == "upsamplers":
            return f"output_blocks.{block * (layers + 1) + layers}.2.{rest}"
        number, prefix = block * (layers + 1) + index, "output_blocks"
    return f"{prefix}.{number}.{0 if kind == 'resnets' else 1}.{renamed(rest, RESNET) if kind == 'resnets' else rest}"


def vae_name(name: str, blocks: int) -> str:
    name = name.replace("conv_norm_out", "norm_out")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if match := re.match(r"(.*)mid_block\.attentions\.0\.(.*)", name):
        return f"{match[1]}mid.attn_1.{renamed(match[2], VAE_ATTENTION)}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
    return name.replace("conv_shortcut", "nin_shortcut")


def open_clip(model) -> dict:
    """transformers' names -> open_clip's, with query, key and value in one matrix."""
    given = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    out = {
        "positional_embedding": given["embeddings.position_embedding.weight"], "token_embedding.weight": given["embeddings.token_embedding.weight"],
        "ln_final.weight": given["final_layer_norm.weight"], "ln_final.bias": given["final_layer_norm.bias"], "text_projection": given["text_projection.weight"].T.contiguous(),
    }
    for i in range(model.config.num_hidden_layers):
        old, new = f"encoder.layers.{i}.", f"transformer.resblocks.{i}."
        for end in ("weight", "bias"):
            out[f"{new}attn.in_proj_{end}"] = torch.cat([given[f"{old}self_attn.{part}_proj.{end}"] for part in "qkv"])
            for ours, theirs in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                out[f"{new}{theirs}.{end}"] = given[f"{old}{ours}.{end}"]
    return out


def original_layout(pipe) -> dict:
    weights = {f"model.diffusion_model.{unet_name(name)}": value for name, value in pipe.unet.state_dict().items()}
    blocks = len(pipe.vae.config.block_out_channels)
    for name, value in pipe.vae.state_dict().items():
        target = vae_name(name, blocks)
        # the original's attention projections are 1x1 convolutions
        is_projection = re.search(r"attn_1\.(q|k|v|proj_out)\.weight", target)
        weights[f"first_stage_model.{target}"] = value[:, :, None, None] if is_projection else value
    weights |= {f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}": value for name, value in pipe.text_encoder.state_dict().items()}
    weights |= {f"conditioner.embedders.1.model.{name}": value for name, value in open_clip(pipe.text_encoder_2).items()}
    return {name: value.contiguous().clone() for name, value in weights.items()}


def read_vocabulary(folder: Path) -> dict:
    return json.loads((folder / "vocab.json").read_text())


def read_merges(folder: Path) -> list:
    return [line for line in (folder / "merges.txt").read_text().splitlines() if line and not line.startswith("#version")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", type=Path, required=True, help="folder with CLIP's tokenizer and tokenizer_2")
    options = parser.parse_args()
    agree = True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        pipe = tiny_sdxl(options.tokenizers)
        pipe.save_pretrained(scratch / "folder")
        save_file(original_layout(pipe), scratch / "model.safetensors")
        tool = [sys.executable, str(Path(__file__).with_name("sdxl.py")), "--check"]
        # fp16 compares with the same module in float32, so its graphs need only agree as far as the tool demands
        print("diffusers folder, --fp16 --fused-attention:", flush=True)
        agree &= subprocess.run([*tool, "--model", str(scratch / "folder"), "--out", str(scratch / "half"), "--fp16", "--fused-attention"]).returncode == 0
        for name, given in (("diffusers folder", [str(scratch / "folder")]), ("single file", [str(scratch / "model.safetensors"), "--config", str(scratch / "folder")])):
            print(f"{name}:", flush=True)
            out = scratch / f"out-{name.split()[0]}"
            agree &= subprocess.run([*tool, "--model", *given, "--out", str(out)]).returncode == 0
            for module in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
                module.requires_grad_(False).eval()
            for part, (module, inputs, _outputs, _axes) in parts_of(pipe).items():
                agree &= compare(f"  {part}, the model's own", out / part / "model.onnx", module, inputs, 80)
            for tokenizer in ("tokenizer", "tokenizer_2"):
                vocabulary, merges = ([read(folder / tokenizer) for folder in (out, options.tokenizers)] for read in (read_vocabulary, read_merges))
                same = vocabulary[0] == vocabulary[1] and merges[0] == merges[1]
                print(f"  {tokenizer:26} {'same' if same else 'DIFFERS'}")
                agree &= same
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
