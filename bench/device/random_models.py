"""SDXL and Wan 2.1's 1.3B transformer in their real architecture with random weights, made on the device; `tiny` shrinks every size."""

from types import SimpleNamespace

import torch


def wan_transformer(device: str, tiny: bool):
    from diffusers import WanTransformer3DModel

    sizes = {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 512} if tiny else {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960}
    torch.manual_seed(0)
    with torch.device(device):
        return WanTransformer3DModel(attention_head_dim=128, text_dim=4096, freq_dim=256, **sizes).requires_grad_(False).eval()


def sdxl_pipeline(device: str, tiny: bool, clip_tokenizers, width: int, height: int):
    """What `tools/export/sdxl.py` reads of a pipeline, without the pipeline class (which wants image processors too)."""
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    tokenizers = [CLIPTokenizer.from_pretrained(clip_tokenizers / name) for name in ("tokenizer", "tokenizer_2")]
    text = lambda width, depth, heads, act: CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2 if tiny else depth, num_attention_heads=heads, hidden_act=act,
        projection_dim=width, max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
    channels = (32, 64, 128) if tiny else (320, 640, 1280)
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(
            sample_size=height // 8, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=channels, layers_per_block=2,
            transformer_layers_per_block=(1, 1, 1) if tiny else (1, 2, 10), attention_head_dim=(2, 2, 2) if tiny else (5, 10, 20), cross_attention_dim=2048,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
        vae = AutoencoderKL(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 64, 64) if tiny else (128, 256, 512, 512), layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, scaling_factor=0.13025, sample_size=height)
        encoders = CLIPTextModel(text(768, 12, 12, "quick_gelu")), CLIPTextModelWithProjection(text(1280, 32, 20, "gelu"))
    scheduler = DPMSolverMultistepScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True, steps_offset=1)
    for module in (unet, vae, *encoders):
        module.requires_grad_(False).eval()

    def save_config(out) -> None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "model_index.json").write_text('{ "force_zeros_for_empty_prompt": true }\n')

    return SimpleNamespace(vae=vae, text_encoder=encoders[0], text_encoder_2=encoders[1], tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], unet=unet, scheduler=scheduler, save_config=save_config)
