"""Whole-clip form of AutoencoderKLWan, for training: the same parameters, no caches.

diffusers computes a clip chunk by chunk with feature caches. The same function in one piece: every causal convolution pads
zeros on the left; the temporal down-sampling keeps frame 0 and appends its stride-2 convolution; the temporal up-sampling
keeps latent 0 and appends two frames for each later one (autoencoder_kl_wan.py; https://arxiv.org/abs/2503.20314).
Activations are [B, T, H, W, C] in memory; a single frame takes the last temporal slice of each kernel.
"""

import torch
import torch.nn.functional as F
from torch import nn


BASE, MULTIPLES = 16, [1, 3, 6]
# every channel count there is: the up-sampling convolutions halve theirs
WIDTHS = sorted({BASE * multiple // part for multiple in MULTIPLES for part in (1, 2)})


def norm_silu(x: torch.Tensor, gamma: torch.Tensor, pad: int, activate: bool) -> torch.Tensor:
    """RMS over the channels (last axis), SiLU, and the zero frames of the convolution that follows."""
    # comparing makes the compiler treat the channel count, and only it, as a constant
    assert any(x.shape[-1] == width for width in WIDTHS), x.shape
    wide = x.float()
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-12) * gamma.float()
    if activate:
        y = F.silu(y)
    y = y.to(x.dtype)
    return F.pad(y, (0, 0, 0, 0, 0, 0, pad, 0)) if pad else y


class ClipVae(nn.Module):
    """Runs a diffusers AutoencoderKLWan on whole clips. `compile_norms`: fuse the norms (GPU)."""

    def __init__(self, vae, compile_norms=False):
        super().__init__()
        self.vae = vae
        self.norm_silu = torch.compile(norm_silu, dynamic=True) if compile_norms else norm_silu

    def conv(self, conv, x, padded=False):
        """A causal convolution of [B, T, H, W, C]; `padded`: the two zero frames are there already."""
        frames, height = conv.weight.shape[2], conv.weight.shape[3]
        if frames == 1 or (x.shape[1] == 1 and not padded):
            b, t, h, w, c = x.shape
            # one frame after zeros only meets the newest temporal slice of the kernel
            y = F.conv2d(x.reshape(b * t, h, w, c).permute(0, 3, 1, 2), conv.weight[:, :, -1], conv.bias, padding=height // 2)
            return y.permute(0, 2, 3, 1).unflatten(0, (b, t))
        if not padded:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, frames - 1, 0))
        return F.conv3d(x.permute(0, 4, 1, 2, 3), conv.weight, conv.bias, padding=(0, height // 2, height // 2)).permute(0, 2, 3, 4, 1)

    def norm(self, norm, x, pad=0, activate=True):
        return self.norm_silu(x, norm.gamma.reshape(-1), pad, activate)

    def residual(self, block, x):
        pad = 2 if x.shape[1] > 1 else 0
        y = self.conv(block.conv1, self.norm(block.norm1, x, pad), padded=pad > 0)
        y = self.conv(block.conv2, self.norm(block.norm2, y, pad), padded=pad > 0)
        return y + (x if isinstance(block.conv_shortcut, nn.Identity) else self.conv(block.conv_shortcut, x))

    def attention(self, block, x):
        b, t, h, w, c = x.shape
        rows = self.norm(block.norm, x, activate=False).reshape(b * t, 1, h * w, c)
        q, k, v = F.linear(rows, block.to_qkv.weight.flatten(1), block.to_qkv.bias).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + F.linear(y, block.proj.weight.flatten(1), block.proj.bias).reshape(b, t, h, w, c)

    def resample(self, block, x):
        b, t, h, w, c = x.shape
        conv = block.resample[1]
        if block.mode == "upsample3d" and t > 1:
            later = self.conv(block.time_conv, x[:, 1:], padded=False) if t > 2 else self.conv(block.time_conv, F.pad(x[:, 1:], (0, 0, 0, 0, 0, 0, 2, 0)), padded=True)
            # [B, T, H, W, 2C] -> [B, 2T, H, W, C]: the first half of the channels is the earlier frame
            later = later.unflatten(-1, (2, c)).permute(0, 1, 4, 2, 3, 5).reshape(b, 2 * (t - 1), h, w, c)
            x = torch.cat([x[:, :1], later], dim=1)
            t = x.shape[1]
        planes = x.reshape(b * t, h, w, c).permute(0, 3, 1, 2)
        if block.mode.startswith("upsample"):
            y = F.conv2d(F.interpolate(planes, scale_factor=2.0, mode="nearest"), conv.weight, conv.bias, padding=1)
        else:
            y = F.conv2d(F.pad(planes, (0, 1, 0, 1)), conv.weight, conv.bias, stride=2)
        x = y.permute(0, 2, 3, 1).unflatten(0, (b, t))
        if block.mode == "downsample3d" and t > 1:
            time = block.time_conv
            later = F.conv3d(x.permute(0, 4, 1, 2, 3), time.weight, time.bias, stride=(2, 1, 1)).permute(0, 2, 3, 4, 1)
            x = torch.cat([x[:, :1], later], dim=1)
        return x

    def block(self, block, x):
        kind = type(block).__name__
        if kind == "WanResidualBlock":
            return self.residual(block, x)
        if kind == "WanResample":
            return self.resample(block, x)
        if kind == "WanAttentionBlock":
            return self.attention(block, x)
        if kind == "WanMidBlock":
            x = self.residual(block.resnets[0], x)
            for attention, resnet in zip(block.attentions, block.resnets[1:]):
                x = self.residual(resnet, self.attention(attention, x))
            return x
        for part in [*block.resnets, *(block.upsamplers or [])]:
            x = self.block(part, x)
        return x

    def half(self, half, blocks, x):
        x = self.conv(half.conv_in, x)
        for block in blocks:
            x = self.block(block, x)
        pad = 2 if x.shape[1] > 1 else 0
        return self.conv(half.conv_out, self.norm(half.norm_out, x, pad), padded=pad > 0)

    def encode(self, clips):
        """[B, T, 3, H, W] in [-1, 1], T = 4n + 1 -> mean and log-variance, each [B, 1 + T // 4, h, w, z]."""
        encoder = self.vae.encoder
        moments = self.conv(self.vae.quant_conv, self.half(encoder, [*encoder.down_blocks, encoder.mid_block], clips.permute(0, 1, 3, 4, 2).contiguous()))
        mean, logvar = moments.float().chunk(2, dim=-1)
        return mean, logvar.clamp(-20, 4)

    def decode(self, latents):
        """[B, F, h, w, z] -> [B, 4F - 3, 3, H, W], not clamped."""
        decoder = self.vae.decoder
        frames = self.half(decoder, [decoder.mid_block, *decoder.up_blocks], self.conv(self.vae.post_quant_conv, latents))
        return frames.permute(0, 1, 4, 2, 3)


def to_channels_last(vae):
    """Lays the convolutions' weights out as ClipVae's activations are."""
    for p in vae.parameters():
        if p.ndim in (4, 5):
            p.data = p.data.contiguous(memory_format=torch.channels_last if p.ndim == 4 else torch.channels_last_3d)


def save_vae(vae, folder, **config):
    """Writes a diffusers folder in fp16; `config` replaces entries of the VAE's own."""
    copy = type(vae).from_config({**vae.config, **config})
    copy.load_state_dict({k: v.detach().cpu().contiguous() for k, v in vae.state_dict().items()})
    copy.half().save_pretrained(folder)


def build_vae():
    """Wan's latent width, three levels (stride 4), narrow at full resolution: flat shapes need little there."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=BASE, z_dim=16, dim_mult=MULTIPLES, num_res_blocks=1, attn_scales=[], temperal_downsample=[True, True], latents_mean=[0.0] * 16, latents_std=[1.0] * 16,
                            scale_factor_spatial=4, scale_factor_temporal=4)
