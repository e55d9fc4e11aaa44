#!/usr/bin/env python3
"""Full-size checkpoints with random weights, as people have them, and torch's own times on the same card.

    python bench/device/full_size.py sdxl --out DIR
    python bench/device/full_size.py wan --out DIR [--frames 17 81 --width 832 --height 480]

Writes the diffusers folders DIR/sdxl or DIR/wan2.1-t2v-1.3b (fp16 weights), DIR/<name>-torch.json (seconds, bytes), and for `graph-step.ts`
one pass of each graph as DIR/<step>.json with its tensors as raw files: inputs, and what diffusers makes of them in float32 and in fp16.
`--wait-for FILE` holds the timing back until FILE exists, so that nothing else computes beside it. `--tiny` shrinks every size, to try the script.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from torch_side import DEVICE, HALF, ROOT, STARTED, say, wait


def timed(work, repeats: int, warm: int = 2) -> dict:
    """Wall seconds of each repetition after some that are not counted, and torch's own peak of device memory."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        repeats, warm = 1, 0
    times = []
    for _ in range(repeats + warm):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return {"seconds": times[warm:], "peak_bytes": torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None}


def attempt(what: str, work, repeats: int, warm: int = 2) -> dict:
    """As `timed`; a failure is a result too: what else this run measures must not be lost to it."""
    try:
        result = timed(work, repeats, warm)
        say(f"{what}: {sorted(result['seconds'])[len(result['seconds']) // 2] * 1000:.1f} ms")
    except Exception as error:  # noqa: BLE001
        result = {"error": f"{type(error).__name__}: {str(error)[:500]}"}
        say(f"{what}: {result['error']}")
    return result


def captured(work):
    """The same work as a CUDA graph: torch without its launch overhead."""
    if DEVICE != "cuda":
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def save(path: Path, value) -> None:
    """Whole or not at all: another process waits for it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(part, path)


def write_step(out: Path, name: str, engine: str, graph: str, inputs: dict, output: str, expected: dict) -> None:
    """One pass for `graph-step.ts`: tensors as little-endian float32 or int64; `expected` by what computed it."""
    def tensor(key: str, value) -> dict:
        file = f"{name}.{key}.bin"
        stored = value.float() if value.is_floating_point() else value.long()
        stored.contiguous().cpu().numpy().tofile(out / file)
        return {"name": key, "file": file, "dims": list(value.shape), "type": "float32" if value.is_floating_point() else "int64"}

    save(out / f"{name}.json", {
        "engine": engine, "graph": graph, "output": output, "inputs": [tensor(key, value) for key, value in inputs.items()],
        "expected": {by: tensor(f"expected-{by}", value) for by, value in expected.items() if value is not None}})


def perturb(module) -> None:
    """Norms and biases that are not one and zero, so that leaving one out is seen."""
    for name, value in module.named_parameters():
        if value.ndim == 1:
            value.add_(torch.randn_like(value) * 0.05)
    module.requires_grad_(False).eval()


def store(module, folder: Path, name: str, config: dict, drop=()) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.half().contiguous().cpu() for key, value in module.state_dict().items() if key not in drop}
    save_file(tensors, folder / name, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    say(f"{folder.name}: {sum(value.numel() for value in tensors.values()) / 1e9:.2f} billion parameters")


def count(module) -> int:
    return sum(value.numel() for value in module.parameters())


def config_of(engine: str, name: str) -> dict:
    return json.loads((ROOT / "models/shared" / engine / name / "config.json").read_text())


def pause(options, name: str) -> None:
    save(options.out / f"{name}-made.json", {"seconds": time.perf_counter() - STARTED})
    while options.wait_for is not None and not options.wait_for.exists():
        time.sleep(0.2)


def in_float32(module, work):
    """What plain float32 makes of it: the nearest to the truth there is here."""
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    result = work(module.float()).float().cpu()
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    return result


def sdxl(options) -> dict:
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder = options.out / "sdxl"
    configs = {name: config_of("sdxl", name) for name in ("unet", "vae", "text_encoder", "text_encoder_2")}
    if options.tiny:
        configs["unet"] |= {"block_out_channels": [32, 64, 128], "transformer_layers_per_block": [1, 1, 1], "attention_head_dim": [2, 2, 2], "num_attention_heads": None}
        configs["vae"] |= {"block_out_channels": [32, 32, 64, 64]}
        for name in ("text_encoder", "text_encoder_2"):
            configs[name] |= {"num_hidden_layers": 2}
    configs["unet"]["sample_size"] = options.height // 8
    torch.manual_seed(0)
    with torch.device(DEVICE):
        unet, vae = UNet2DConditionModel.from_config(configs["unet"]), AutoencoderKL.from_config(configs["vae"])
        texts = CLIPTextModel(CLIPTextConfig.from_dict(configs["text_encoder"])), CLIPTextModelWithProjection(CLIPTextConfig.from_dict(configs["text_encoder_2"]))
    parts = {"unet": unet, "vae": vae, "text_encoder": texts[0], "text_encoder_2": texts[1]}
    for name, module in parts.items():
        perturb(module)
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        store(module, folder / name, f"{stem}.fp16.safetensors", configs[name], [key for key in module.state_dict() if key.endswith("position_ids")])
        # what is compared is what the file holds
        module.half().float()
    shared = ROOT / "models/shared/sdxl"
    for name in ("tokenizer", "tokenizer_2", "scheduler"):
        (folder / name).mkdir(exist_ok=True)
        for file in (shared / name).iterdir():
            shutil.copyfile(file, folder / name / file.name)
    for file in ("vocab.json", "merges.txt"):
        shutil.copyfile(shared / "tokenizer" / file, folder / "tokenizer_2" / file)
    shutil.copyfile(shared / "model_index.json", folder / "model_index.json")
    pause(options, "sdxl")

    latent = (options.height // 8, options.width // 8)
    place = {"device": DEVICE, "dtype": HALF}
    inputs = {
        "sample": torch.randn(2, 4, *latent, **place), "timestep": torch.tensor(501.0, device=DEVICE), "encoder_hidden_states": torch.randn(2, 77, 2048, **place),
        "text_embeds": torch.randn(2, 1280, **place), "time_ids": torch.tensor([[options.height, options.width, 0, 0, options.height, options.width]] * 2, **place),
    }

    def step(model, dtype):
        sample, moment, words, pooled, sizes = (value.to(dtype) for value in inputs.values())
        return model(sample, moment, encoder_hidden_states=words, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}, return_dict=False)[0]

    latents = torch.randn(1, 4, *latent, device=DEVICE)
    exact = in_float32(unet, lambda model: step(model, torch.float32))
    picture = in_float32(vae, lambda model: model.decode(latents, return_dict=False)[0])
    result = {"parameters": {name: count(module) for name, module in parts.items()}}
    result["decode_fp32"] = attempt("decoder, float32", lambda: vae.decode(latents), 3)
    unet.to(HALF)
    half = step(unet, HALF)
    write_step(options.out, "sdxl-unet", "sdxl", "unet/model", inputs, "out_sample", {"fp32": exact, "fp16": half})
    write_step(options.out, "sdxl-vae", "sdxl", "vae_decoder/model", {"latent_sample": latents}, "sample", {"fp32": picture})
    result["unet_fp16"] = attempt("UNet, fp16", lambda: step(unet, HALF), 10)
    try:
        replay = captured(lambda: step(unet, HALF))
        result["unet_fp16_graph"] = attempt("UNet, fp16, as a CUDA graph", replay, 15)
    except Exception as error:  # noqa: BLE001
        result["unet_fp16_graph"] = {"error": str(error)[:500]}

    scheduler = DPMSolverMultistepScheduler.from_config(json.loads((shared / "scheduler/scheduler_config.json").read_text()), algorithm_type="dpmsolver++", use_karras_sigmas=True)

    def job():
        """As a pipeline does it: 25 steps with guidance, the decoder in float32, pixels on the CPU."""
        scheduler.set_timesteps(2 if options.tiny else 25, device=DEVICE)
        current = torch.randn(1, 4, *latent, **place) * scheduler.init_noise_sigma
        words, pooled, sizes = (inputs[name] for name in ("encoder_hidden_states", "text_embeds", "time_ids"))
        for moment in scheduler.timesteps:
            both = scheduler.scale_model_input(torch.cat([current] * 2), moment)
            negative, positive = unet(both, moment, encoder_hidden_states=words, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}, return_dict=False)[0].chunk(2)
            current = scheduler.step(negative + 6 * (positive - negative), moment, current, return_dict=False)[0]
        image = vae.decode(current.float() / vae.config.scaling_factor, return_dict=False)[0]
        return ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()

    result["job_25_steps"] = attempt("25 steps and decoder, without text and PNG", job, 2, 1)
    return result


def wan(options) -> dict:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    folder = options.out / "wan2.1-t2v-1.3b"
    sizes = {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 512} if options.tiny else {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    text_config, vae_config = config_of("wan", "text_encoder"), config_of("wan", "vae")
    if options.tiny:
        text_config |= {"num_layers": 2, "d_ff": 256, "d_kv": 16, "num_heads": 4, "vocab_size": 2000}
        vae_config |= {"base_dim": 16}
    torch.manual_seed(0)
    with torch.device(DEVICE):
        transformer = WanTransformer3DModel(attention_head_dim=128, text_dim=4096, freq_dim=256, **sizes)
        vae = AutoencoderKLWan.from_config(vae_config)
    for name, module in (("transformer", transformer), ("vae", vae)):
        perturb(module)
        store(module, folder / name, "diffusion_pytorch_model.safetensors", dict(module.config))
        module.half().float()
    text = None
    if not options.no_text:
        torch.set_default_dtype(torch.float16)
        with torch.device(DEVICE):
            text = UMT5EncoderModel(UMT5Config.from_dict(text_config)).requires_grad_(False)
        torch.set_default_dtype(torch.float32)
        store(text, folder / "text_encoder", "model.safetensors", text_config, ["encoder.embed_tokens.weight"])
    # a small tokenizer of the same kind: only the number of tokens matters here
    shutil.copytree(ROOT / "test/parity/models/wan-tiny/tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / "models/shared/wan" / name, folder / name)
    if options.tiny:
        sizes = {"defaultWidth": options.width, "defaultHeight": options.height, "defaultFrames": options.frames[0]}
        (folder / "ourvidz.json").write_text(json.dumps(sizes) + "\n")
    pause(options, "wan")

    passes, given = {}, {}
    for frames in options.frames:
        given[frames] = {
            "hidden_states": torch.randn(1, 16, (frames - 1) // 4 + 1, options.height // 8, options.width // 8, device=DEVICE),
            "timestep": torch.tensor([750], device=DEVICE), "encoder_hidden_states": torch.randn(1, 512, 4096, device=DEVICE),
        }
    exact = {}
    for frames, values in given.items():
        # attention in float32 over all tokens of a long clip takes a minute: its reference is fp16's
        if values["hidden_states"][0, 0].numel() // 4 < 10_000:
            exact[frames] = in_float32(transformer, lambda model: model(*values.values(), return_dict=False)[0])
    transformer.to(HALF)
    for frames, (x, moment, words) in ((frames, tuple(values.values())) for frames, values in given.items()):
        step = lambda: transformer(x.to(HALF), moment, words.to(HALF), return_dict=False)[0]
        passes[frames] = {"tokens": x[0, 0].numel() // 4, "fp16": attempt(f"{frames} frames, fp16", step, 3, 1)}
        write_step(options.out, f"wan-{frames}", "wan", "transformer/model", given[frames], "sample", {"fp32": exact.get(frames), "fp16": step()})
    result = {"parameters": count(transformer), "frames": passes}
    # pass by pass is worth keeping even if the whole pipeline, which needs the most memory, does not end
    save(options.out / "wan-torch-passes.json", result)
    if text is not None:
        result["job_25_steps"] = wan_job(options, transformer, vae, text.to(HALF))
    return result


def wan_job(options, transformer, vae, text) -> dict:
    """diffusers' own pipeline: text, 25 steps with guidance, decode (float32 with TF32, as its documentation has it), and the MP4."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    scheduler = UniPCMultistepScheduler.from_config(json.loads((ROOT / "models/shared/wan/scheduler/scheduler_config.json").read_text()), flow_shift=5.0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    pipe = WanPipeline(tokenizer=None, text_encoder=text, transformer=transformer, vae=vae.float(), scheduler=scheduler)
    pipe.set_progress_bar_config(disable=True)
    ids, frames, parts = torch.randint(3, 1000, (1, 512), device=DEVICE), options.frames[-1], {}

    def encode(real: int):
        mask = (torch.arange(512, device=DEVICE) < real).long()[None]
        return text(ids * mask, mask).last_hidden_state * mask[..., None].to(HALF)

    def job(steps: int):
        started = time.perf_counter()
        made = pipe(prompt_embeds=encode(30), negative_prompt_embeds=encode(1), height=options.height, width=options.width, num_frames=frames,
                    num_inference_steps=steps, guidance_scale=5.0, output_type="np").frames[0]
        wait()
        parts["pipeline"] = time.perf_counter() - started
        if shutil.which("ffmpeg") is None:
            return
        clip = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{options.width}x{options.height}", "-framerate", "16", "-i", "-",
                "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "medium", "-crf", "18", "-movflags", "+faststart", str(options.out / "wan-torch.mp4")]
        subprocess.run(clip, input=(made * 255).round().astype("uint8").tobytes(), check=True)
        parts["mp4"] = time.perf_counter() - started - parts["pipeline"]

    job(1)
    return attempt(f"the whole job of {frames} frames", lambda: job(2 if options.tiny else 25), 1, 0) | parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["sdxl", "wan"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 81])
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--no-text", action="store_true", help="without the text encoder (11 GB of wan's)")
    parser.add_argument("--wait-for", type=Path, help="time only once this file exists")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.width = options.width or (832 if options.which == "wan" else 1024)
    options.height = options.height or (480 if options.which == "wan" else 1024)
    options.out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        result = {"wan": wan, "sdxl": sdxl}[options.which](options)
    result |= {"torch": torch.__version__, "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "width": options.width, "height": options.height}
    save(options.out / f"{options.which}-torch.json", result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
