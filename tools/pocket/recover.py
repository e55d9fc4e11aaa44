"""Writes shipped ONNX folders back as what they were exported from, so that training can go on from them.

    python tools/pocket/recover.py sdxl --out DIR     # a diffusers folder, and DIR/adapter with the UNet that takes references
    python tools/pocket/recover.py wan --out DIR      # a diffusers folder

A weight in a graph has often lost its name and its form. The same module with random weights is exported once more: what a node reads
there is known by its value, and the same node of the shipped graph reads the trained one.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "export"), str(HERE / "sdxl")]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from common import export_graph  # noqa: E402

PASSED_ON = ("Cast", "Identity")


def weights_read(path: Path) -> dict:
    """(node, input) -> array, of every weight a node reads."""
    graph = onnx.load(str(path)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    source = {}
    for node in graph.node:
        if node.op_type in PASSED_ON and source.get(node.input[0], node.input[0]) in stored:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
    return {(node.name, i): stored[source.get(name, name)].astype(np.float32) for node in graph.node if node.output[0] not in source
            for i, name in enumerate(node.input) if source.get(name, name) in stored and np.issubdtype(stored[source.get(name, name)].dtype, np.floating)}


@torch.no_grad()
def recover(module, parts: tuple, path: Path) -> set:
    """Puts the weights of the graph at `path` into the tensors of `module`; `parts` are its inputs, output names and axes. Returns the names found.

    A tensor that no node reads is left as it is.
    """
    tensors = {name: value for name, value in [*module.named_parameters(), *module.named_buffers()] if value.is_floating_point()}
    for value in tensors.values():
        value.copy_(torch.randn(value.shape))
    with tempfile.TemporaryDirectory() as scratch:
        export_graph(module, *parts[:2], Path(scratch) / "model.onnx", parts[2])
        fresh = weights_read(Path(scratch) / "model.onnx")
    key = lambda array: (array.size, array.ravel()[:: max(1, array.size // 7)].tobytes())
    known = {}
    for name, value in tensors.items():
        for turned, back in ((value, lambda a: a), (value.T if value.ndim == 2 else value, (lambda a: a.T) if value.ndim == 2 else lambda a: a)):
            known.setdefault(key(np.ascontiguousarray(turned.numpy())), (name, back))
    shipped, found = weights_read(path), set()
    for place, array in fresh.items():
        if key(array) in known and place in shipped:
            name, back = known[key(array)]
            given = shipped[place].reshape(array.shape)
            tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(back(given))).view(tensors[name].shape))
            found.add(name)
        elif key(array) in known:
            raise ValueError(f"{path}: no node {place}")
    return found


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def copy_files(shipped: Path, out: Path, names: list) -> None:
    for name in names:
        if (shipped / name).is_dir():
            shutil.copytree(shipped / name, out / name, dirs_exist_ok=True)
        else:
            shutil.copyfile(shipped / name, out / name)


def nothing_missing(module, found: set, may_miss=()) -> None:
    missing = [name for name, value in module.named_parameters() if name not in found and value.ndim > 1 and not name.startswith(may_miss)]
    if missing:
        raise ValueError(f"not recovered: {missing}")


def recover_sdxl(shipped: Path, out: Path) -> None:
    from adapter import ReferenceTokens, install_pocket, picture_arguments
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from sdxl import parts_of
    from image_adapter import ImageAdapter
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    class Pipe:
        unet = UNet2DConditionModel.from_config(config_of(shipped / "unet"))
        vae = AutoencoderKL.from_config(config_of(shipped / "vae_decoder"))
        text_encoder = CLIPTextModel(CLIPTextConfig.from_dict(config_of(shipped / "text_encoder")))
        text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(config_of(shipped / "text_encoder_2")))
        tokenizer = AutoTokenizer.from_pretrained(shipped / "tokenizer")

    torch.backends.mha.set_fastpath_enabled(False)
    install_pocket(Pipe.unet)
    tables = json.loads((shipped / "adapter.json").read_text())
    tokens = ReferenceTokens(Pipe.unet.config.cross_attention_dim)
    example = ("latent_sample", torch.randn(1, 4, 16, 16))
    adapter = ImageAdapter(tokens, example, ["ip_tokens"], 80, picture_arguments, tables)
    for module in (Pipe.unet, Pipe.vae, Pipe.text_encoder, Pipe.text_encoder_2, tokens):
        module.requires_grad_(False).eval()
    for name, (module, inputs, outputs, axes) in parts_of(Pipe, adapter).items():
        kept = {key: value.clone() for key, value in module.state_dict().items()}
        found = recover(module, (inputs, outputs, axes), shipped / name / "model.onnx")
        for key, value in module.state_dict().items():
            # what no node reads keeps what a new model has: the halves of the VAE that the other graph holds, vectors that were zeros or ones
            if key not in found and value.is_floating_point() and name not in ("vae_encoder", "vae_decoder"):
                value.copy_(kept[key])
        if name == "vae_decoder":
            decoder = {key: value.clone() for key, value in Pipe.vae.state_dict().items() if key.startswith(("decoder.", "post_quant"))}
        print(name, len(found), "tensors")
    Pipe.vae.load_state_dict({**Pipe.vae.state_dict(), **decoder})
    plain = UNet2DConditionModel.from_config(Pipe.unet.config)
    plain.load_state_dict({key: value for key, value in Pipe.unet.state_dict().items() if "_ip." not in key})
    plain.half().save_pretrained(out / "unet")
    Pipe.vae.half().save_pretrained(out / "vae")
    Pipe.text_encoder.half().save_pretrained(out / "text_encoder")
    Pipe.text_encoder_2.half().save_pretrained(out / "text_encoder_2")
    copy_files(shipped, out, ["tokenizer", "tokenizer_2", "scheduler", "model_index.json"])
    (out / "adapter").mkdir(exist_ok=True)
    weights = {**{f"unet.{k}": v for k, v in Pipe.unet.state_dict().items()}, **{f"reference_tokens.{k}": v for k, v in tokens.state_dict().items()}}
    save_file({k: v.half().contiguous() for k, v in weights.items()}, out / "adapter/weights-0.safetensors")
    copy_files(shipped, out / "adapter", ["adapter.json"])


def recover_wan(shipped: Path, out: Path) -> None:
    import wan_vae
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel
    from umt5_text import ExportUmt5Encoder
    from wan_transformer import ExportTransformer

    text = UMT5EncoderModel(UMT5Config.from_dict(config_of(shipped / "text_encoder"))).requires_grad_(False).eval()
    ids = torch.randint(2, text.config.vocab_size, (2, 40))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    module = ExportUmt5Encoder(text)
    nothing_missing(module, recover(module, (inputs, ["last_hidden_state"], {name: {0: "batch", 1: "sequence"} for name in [*inputs, "last_hidden_state"]}), shipped / "text_encoder/model.onnx"))
    text.half().save_pretrained(out / "text_encoder")

    transformer = WanTransformer3DModel.from_config(config_of(shipped / "transformer")).requires_grad_(False).eval()
    inputs = {"hidden_states": torch.randn(2, 16, 2, 8, 10), "timestep": torch.tensor([999, 500]), "encoder_hidden_states": torch.randn(2, 24, 192)}
    volume = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    axes = {"hidden_states": volume, "sample": volume, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}}
    module = ExportTransformer(transformer)
    nothing_missing(module, recover(module, (inputs, ["sample"], axes), shipped / "transformer/model.onnx"))
    transformer.half().save_pretrained(out / "transformer")

    # the streaming form has weights of its own: they remember whose they are
    made = []

    class Conv(wan_vae.CausalConv):
        def __init__(self, conv):
            super().__init__(conv)
            made.append((self, conv))

    class Norm(wan_vae.RmsNorm):
        def __init__(self, norm):
            super().__init__(norm)
            made.append((self, norm))

    wan_vae.CausalConv, wan_vae.RmsNorm = Conv, Norm
    vae = AutoencoderKLWan.from_config(config_of(shipped / "vae_decoder")).requires_grad_(False).eval()
    for half, given, first, later, name in ((wan_vae.StreamingDecoder(vae), "latent_frame", torch.randn(1, 16, 6, 8), torch.randn(1, 16, 6, 8), "vae_decoder"),
                                           (wan_vae.StreamingEncoder(vae), "video_frames", torch.randn(1, 3, 24, 32), torch.randn(4, 3, 24, 32), "vae_encoder")):
        caches = half(first)[1:]
        steps = {given: later} | {f"c{i}": cache for i, cache in enumerate(caches)}
        half.requires_grad_(False)
        nothing_missing(half, recover(half, (steps, ["out", *(f"nc{i}" for i in range(len(caches)))], {}), shipped / name / "step.onnx"))
    for mine, theirs in made:
        if hasattr(mine, "frames"):
            o, i, t, h, w = theirs.weight.shape
            theirs.weight.copy_(mine.weight[:, : t * i].reshape(o, t, i, h, w).permute(0, 2, 1, 3, 4))
            theirs.bias.copy_(mine.bias)
        else:
            theirs.gamma.copy_((mine.gamma / theirs.scale).view(theirs.gamma.shape))
    vae.half().save_pretrained(out / "vae")
    copy_files(shipped, out, ["tokenizer", "scheduler", "model_index.json"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["sdxl", "wan"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    shipped = HERE.parents[1] / "models/pocket" / options.model
    options.out.mkdir(parents=True, exist_ok=True)
    {"sdxl": recover_sdxl, "wan": recover_wan}[options.model](shipped, options.out)


if __name__ == "__main__":
    main()
