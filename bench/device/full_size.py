#!/usr/bin/env python3
"""Full-size models with random weights, exported as real ones are, and torch's own times on the same GPU.

    python bench/device/full_size.py sdxl --out DIR --clip-tokenizers test/parity/models/sdxl-tiny
    python bench/device/full_size.py wan --out DIR [--frames 81 --width 832 --height 480]

Writes DIR/sdxl or DIR/wan2.1-t2v-1.3b, and DIR/<name>-torch.json with seconds and bytes; for wan also one forward pass
(inputs and torch's output as raw float32) that `wan-step.js` compares with. `--tiny` shrinks every size, to try the script.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "export"))

from common import export_graph  # noqa: E402
from wan_transformer import ExportTransformer  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def seconds_of(work, repeats: int) -> list:
    """Wall seconds of each repetition after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return times[1:]


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak_bytes() -> int:
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else 0


def forget_peak() -> None:
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def say(text: str, started: float) -> None:
    print(f"{time.perf_counter() - started:7.1f} s  {text}", flush=True)


def wan(options, started: float) -> dict:
    from diffusers import WanTransformer3DModel

    sizes = {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 512} if options.tiny else {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = WanTransformer3DModel(attention_head_dim=128, text_dim=4096, freq_dim=256, **sizes).requires_grad_(False).eval()
    parameters = sum(value.numel() for value in model.parameters())
    module = ExportTransformer(model).to(DEVICE)
    module.halve()
    say(f"transformer of {parameters / 1e9:.2f} billion parameters", started)

    def inputs(frames: int, height: int, width: int, words: int) -> dict:
        return {
            "hidden_states": torch.randn(1, 16, frames, height, width, device=DEVICE), "timestep": torch.tensor([750], device=DEVICE),
            "encoder_hidden_states": torch.randn(1, words, 4096, device=DEVICE),
        }

    folder = options.out / "wan2.1-t2v-1.3b" / "transformer"
    volume = {0: "batch", 2: "frames", 3: "height", 4: "width"}
    axes = {"hidden_states": volume, "sample": volume, "timestep": {0: "batch"}, "encoder_hidden_states": {0: "batch", 1: "sequence"}}
    export_graph(module, inputs(2, 8, 10, 24), ["sample"], folder / "model.onnx", axes)
    say("exported", started)

    full = inputs((options.frames - 1) // 4 + 1, options.height // 8, options.width // 8, 512)
    forget_peak()
    times = seconds_of(lambda: module(*full.values()), 3)
    for name, value in [*full.items(), ("sample", module(*full.values()))]:
        value.float().cpu().numpy().tofile(options.out / f"wan-{name}.f32")
    say("timed in torch", started)
    return {
        "parameters": parameters, "tokens": full["hidden_states"][0, 0].numel() // 4, "latents": list(full["hidden_states"].shape),
        "forward_seconds": times, "seconds_per_step_two_passes": 2 * min(times), "peak_bytes": peak_bytes(),
    }


def sdxl_pipeline(options):
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizers = [CLIPTokenizer.from_pretrained(options.clip_tokenizers / name) for name in ("tokenizer", "tokenizer_2")]
    layers = 2 if options.tiny else 0
    text = lambda width, depth, heads, act: CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers or depth, num_attention_heads=heads, hidden_act=act,
        projection_dim=width, max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
    channels = (32, 64, 128) if options.tiny else (320, 640, 1280)
    torch.manual_seed(0)
    with torch.device(DEVICE):
        unet = UNet2DConditionModel(
            sample_size=options.height // 8, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=channels, layers_per_block=2,
            transformer_layers_per_block=(1, 1, 1) if options.tiny else (1, 2, 10), attention_head_dim=(2, 2, 2) if options.tiny else (5, 10, 20), cross_attention_dim=2048,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 64, 64) if options.tiny else (128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.13025, sample_size=options.height)
        encoders = CLIPTextModel(text(768, 12, 12, "quick_gelu")), CLIPTextModelWithProjection(text(1280, 32, 20, "gelu"))
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True, steps_offset=1)
    pipe = SimpleNamespace(
        vae=vae, text_encoder=encoders[0], text_encoder_2=encoders[1], tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], unet=unet, scheduler=scheduler,
        save_config=lambda out: (out.mkdir(parents=True, exist_ok=True), (out / "model_index.json").write_text('{ "force_zeros_for_empty_prompt": true }\n')))
    for module in (unet, vae, *encoders):
        module.requires_grad_(False).eval()
    return pipe


def sdxl(options, started: float) -> dict:
    from sdxl import FusedAttentionProcessor, export_parts, write_configs

    pipe = sdxl_pipeline(options)
    parameters = {name: sum(value.numel() for value in getattr(pipe, name).parameters()) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    say(f"models of {sum(parameters.values()) / 1e9:.2f} billion parameters", started)
    pipe.unet.set_attn_processor(FusedAttentionProcessor())
    folder = options.out / "sdxl"
    write_configs(pipe, options.clip_tokenizers, folder)
    export_parts(pipe, folder, [], fp16=True, check=False)
    say("exported", started)

    latent = (options.height // 8, options.width // 8)
    half = {"device": DEVICE, "dtype": torch.float16}
    sample, words, pooled = torch.randn(2, 4, *latent, **half), torch.randn(2, 77, 2048, **half), torch.randn(2, 1280, **half)
    sizes = torch.tensor([[options.height, options.width, 0, 0, options.height, options.width]] * 2, **half)
    moment = torch.tensor(501.0, device=DEVICE)
    forget_peak()
    steps = seconds_of(lambda: pipe.unet(sample, moment, encoder_hidden_states=words, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}), 5)
    step_bytes = peak_bytes()
    forget_peak()
    decodes = seconds_of(lambda: pipe.vae.decode(torch.randn(1, 4, *latent, device=DEVICE)), 2)
    say("timed in torch", started)
    return {"parameters": parameters, "seconds_per_step": steps, "step_peak_bytes": step_bytes, "decode_seconds": decodes, "decode_peak_bytes": peak_bytes()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["sdxl", "wan"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clip-tokenizers", type=Path, help="folder with tokenizer and tokenizer_2 (sdxl)")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.width = options.width or (832 if options.which == "wan" else 1024)
    options.height = options.height or (480 if options.which == "wan" else 1024)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with torch.no_grad():
        result = {"wan": wan, "sdxl": sdxl}[options.which](options, started)
    result |= {"torch": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "width": options.width, "height": options.height}
    (options.out / f"{options.which}-torch.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
