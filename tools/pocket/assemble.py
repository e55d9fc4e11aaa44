"""Puts the flat weights that tuning wrote back into the folder they came from, as diffusers and the exporters read it.

    python tools/pocket/assemble.py sdxl --weights DIR --base build/sdxl-base --out build/sdxl-next
    python tools/pocket/assemble.py wan --weights DIR --base build/wan-base --vae-config DIR/vae/config.json --out build/wan-next

DIR has sdxl-*.safetensors or wan-*.safetensors and the new tokenizer.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def write(path: Path, weights: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, path, {"format": "pt"})


def layers_of(weights: dict, pattern: str) -> int:
    return 1 + max(int(found[1]) for name in weights if (found := re.search(pattern, name)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["sdxl", "wan"])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--vae-config", type=Path, help="of a VAE whose latents' mean and deviation changed")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    shutil.copytree(options.base, options.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"))
    files = sorted(options.weights.glob(f"{options.model}-*.safetensors"))
    weights = {name: value for file in files for name, value in load_file(file).items()}
    part = lambda name: {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    for name in ("tokenizer", "tokenizer_2"):
        for folder in (options.weights / name, options.weights / f"{options.model}-{name}"):
            if folder.is_dir():
                shutil.copytree(folder, options.out / name, dirs_exist_ok=True)
    write(options.out / "vae/diffusion_pytorch_model.safetensors", part("vae"))
    configs = {}
    if options.model == "sdxl":
        with safe_open(files[0], "pt") as flat:
            # a VAE trained from nothing scales its latents by a number of its own
            if told := (flat.metadata() or {}).get("scaling_factor"):
                configs["vae"] = {"scaling_factor": float(told)}
        if not (options.weights / "tokenizer_2").is_dir():
            # the same words with another pad token
            for file in ("vocab.json", "merges.txt"):
                shutil.copyfile(options.out / "tokenizer" / file, options.out / "tokenizer_2" / file)
        vocab = json.loads((options.out / "tokenizer/vocab.json").read_text())
        unet = part("unet")
        write(options.out / "unet/diffusion_pytorch_model.safetensors", {name: value for name, value in unet.items() if "_ip." not in name})
        write(options.out / "adapter/weights-0.safetensors", {f"unet.{k}": v for k, v in unet.items()} | {f"reference_tokens.{k}": v for k, v in part("reference_tokens").items()})
        for name in ("text_encoder", "text_encoder_2"):
            text = part(name)
            write(options.out / name / "model.safetensors", text)
            configs[name] = {"vocab_size": len(vocab), "bos_token_id": vocab["<|startoftext|>"], "eos_token_id": vocab["<|endoftext|>"], "num_hidden_layers": layers_of(text, r"encoder\.layers\.(\d+)\.")}
        configs["text_encoder"]["pad_token_id"] = vocab["<|endoftext|>"]
    else:
        write(options.out / "transformer/diffusion_pytorch_model.safetensors", part("transformer"))
        text = part("text_encoder")
        text.pop("encoder.embed_tokens.weight", None)
        write(options.out / "text_encoder/model.safetensors", text)
        layers = layers_of(text, r"encoder\.block\.(\d+)\.")
        configs["text_encoder"] = {"vocab_size": text["shared.weight"].shape[0], "num_layers": layers, "num_decoder_layers": layers}
        if options.vae_config:
            shutil.copyfile(options.vae_config, options.out / "vae/config.json")
    for name, changed in configs.items():
        file = options.out / name / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}, indent=2) + "\n")


if __name__ == "__main__":
    main()
