"""Streaming form of Wan's causal VAE: graphs that take one chunk and the feature caches, and return frames and caches.

Activations are [T, C, H, W] (batch 1): a causal 3x3x3 convolution is one 2D convolution over three stacked frames, so
only 2D operators remain, which every execution provider has. A cache is the last two inputs of a convolution
[2, C, h, w]; those of the stride-2 temporal convolutions are one frame [1, C, h, w]. All start as zeros, except that
chunk 0 skips the temporal up- and downsampling (Wan2.1, wan/modules/vae.py; diffusers, autoencoder_kl_wan.py).
"""

import torch
import torch.nn.functional as F
from torch import nn


def frame_zeros_like(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Zeros [frames, C, H, W] that follow x's height and width at run time; a constant would freeze them."""
    return torch.cat([x[:1] * 0.0] * frames, dim=0)


class CausalConv(nn.Module):
    """WanCausalConv3d with a temporal kernel of 3 (or 1) as a 2D convolution."""

    def __init__(self, conv: nn.Conv3d):
        super().__init__()
        out_channels, in_channels, self.frames, height, width = conv.weight.shape
        # [O, C, 3, h, w] -> [O, 3*C, h, w]: frames stacked on the channel axis, oldest first
        weight = conv.weight.detach().permute(0, 2, 1, 3, 4).reshape(out_channels, self.frames * in_channels, height, width)
        # ONNX Runtime's WebGPU convolves 9 channels (a picture's three frames) wrongly, 12 rightly: microsoft/onnxruntime#29651
        self.spare = -weight.shape[1] % 4 if weight.shape[1] > 4 else 0
        self.weight = nn.Parameter(F.pad(weight, (0, 0, 0, 0, 0, self.spare)))
        self.bias = nn.Parameter(conv.bias.detach())
        self.pad = height // 2
        self.stride = conv.stride[0]

    def forward(self, x, cache=None):
        """x [T, C, H, W], cache [2 (stride 1) or 1 (stride 2), C, H, W] -> (y, new cache)."""
        if self.frames == 1:
            return F.conv2d(x, self.weight, self.bias, padding=self.pad), None
        frames = torch.cat([cache, x], dim=0)
        count = frames.shape[0] - 2
        stacked = torch.cat([frames[i : i + count] for i in range(3)], dim=1)
        if self.spare:
            stacked = F.pad(stacked, (0, 0, 0, 0, 0, self.spare))
        if self.stride == 2:
            stacked = stacked[::2]
            return F.conv2d(stacked, self.weight, self.bias), x[-1:]
        return F.conv2d(stacked, self.weight, self.bias, padding=self.pad), frames[-2:]


class RmsNorm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.gamma = nn.Parameter(norm.gamma.detach().reshape(1, -1, 1, 1) * norm.scale)

    def forward(self, x):
        return F.normalize(x, dim=1) * self.gamma


class Caches:
    """Hands out the caches in the order in which the convolutions run, and collects the new ones."""

    def __init__(self, given=None):
        self.given = given
        self.new = []

    @property
    def first_chunk(self) -> bool:
        return self.given is None

    def conv(self, conv: CausalConv, x):
        frames = 1 if conv.stride == 2 else 2
        cache = frame_zeros_like(x, frames) if self.first_chunk else self.given[len(self.new)]
        y, new = conv(x, cache)
        self.new.append(new)
        return y

    def keep(self, value):
        self.new.append(value)


class ResidualBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.norm1, self.conv1 = RmsNorm(block.norm1), CausalConv(block.conv1)
        self.norm2, self.conv2 = RmsNorm(block.norm2), CausalConv(block.conv2)
        self.shortcut = None if isinstance(block.conv_shortcut, nn.Identity) else CausalConv(block.conv_shortcut)

    def forward(self, x, caches: Caches):
        residual = x if self.shortcut is None else self.shortcut(x)[0]
        x = caches.conv(self.conv1, F.silu(self.norm1(x)))
        x = caches.conv(self.conv2, F.silu(self.norm2(x)))
        return x + residual


class AttentionBlock(nn.Module):
    """Single-head attention over the pixels of each frame."""

    def __init__(self, block):
        super().__init__()
        self.norm, self.to_qkv, self.proj = RmsNorm(block.norm), block.to_qkv, block.proj

    def forward(self, x, caches: Caches):
        frames, channels, height, width = x.shape
        q, k, v = self.to_qkv(self.norm(x)).reshape(frames, 3 * channels, height * width).transpose(1, 2).chunk(3, dim=-1)
        scores = torch.softmax(q @ k.transpose(1, 2) * channels**-0.5, dim=-1)
        y = (scores @ v).transpose(1, 2).reshape(frames, channels, height, width)
        return x + self.proj(y)


class Resample(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.mode = block.mode
        self.conv2d = block.resample[1]
        self.time_conv = CausalConv(block.time_conv) if block.mode in ("upsample3d", "downsample3d") else None

    def forward(self, x, caches: Caches):
        if self.mode == "upsample3d":
            if caches.first_chunk:
                caches.keep(frame_zeros_like(x, 2))
            else:
                frames, channels, height, width = x.shape
                # [T, 2C] -> [2T, C]: the first half of the channels is the earlier frame
                x = caches.conv(self.time_conv, x).reshape(frames * 2, channels, height, width)
        if self.mode.startswith("upsample"):
            return self.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.conv2d(F.pad(x, (0, 1, 0, 1)))
        if self.mode == "downsample3d":
            if caches.first_chunk:
                caches.keep(x)
            else:
                x = caches.conv(self.time_conv, x)
        return x


def convert(block) -> list[nn.Module]:
    """diffusers' blocks, flattened into the order in which they run."""
    kind = type(block).__name__
    if kind == "WanResidualBlock":
        return [ResidualBlock(block)]
    if kind == "WanAttentionBlock":
        return [AttentionBlock(block)]
    if kind == "WanResample":
        return [Resample(block)]
    if kind == "WanMidBlock":
        layers = convert(block.resnets[0])
        for attention, resnet in zip(block.attentions, block.resnets[1:]):
            layers += (convert(attention) if attention is not None else []) + convert(resnet)
        return layers
    if kind == "WanUpBlock":
        return [layer for part in [*block.resnets, *(block.upsamplers or [])] for layer in convert(part)]
    raise ValueError(f"{kind} of this VAE is not supported: only Wan 2.1's layout is (is_residual false)")


class Stack(nn.Module):
    """conv_in, blocks, norm, conv_out of one half of the VAE."""

    def __init__(self, half, blocks):
        super().__init__()
        self.conv_in, self.conv_out = CausalConv(half.conv_in), CausalConv(half.conv_out)
        self.blocks = nn.ModuleList([layer for block in blocks for layer in convert(block)])
        self.norm_out = RmsNorm(half.norm_out)

    def forward(self, x, caches: Caches):
        x = caches.conv(self.conv_in, x)
        for block in self.blocks:
            x = block(x, caches)
        return caches.conv(self.conv_out, F.silu(self.norm_out(x)))


class StreamingDecoder(nn.Module):
    """latent_frame [1, z, h, w] (un-normalised) -> video_frames [1 or 4, 3, H, W] in [-1, 1] and the new caches."""

    def __init__(self, vae):
        super().__init__()
        self.post_quant = CausalConv(vae.post_quant_conv)
        self.stack = Stack(vae.decoder, [vae.decoder.mid_block, *vae.decoder.up_blocks])

    def forward(self, latent_frame, *given):
        caches = Caches(given if given else None)
        frames = self.stack(self.post_quant(latent_frame)[0], caches)
        return torch.clamp(frames, -1.0, 1.0), *caches.new


class StreamingEncoder(nn.Module):
    """video_frames [1 or 4, 3, H, W] in [-1, 1] -> latent_mean [1, z, h, w] (not normalised) and the new caches."""

    def __init__(self, vae):
        super().__init__()
        self.quant = CausalConv(vae.quant_conv)
        self.stack = Stack(vae.encoder, [*vae.encoder.down_blocks, vae.encoder.mid_block])
        self.z_dim = vae.config.z_dim

    def forward(self, video_frames, *given):
        caches = Caches(given if given else None)
        moments = self.quant(self.stack(video_frames, caches))[0]
        return moments[:, : self.z_dim], *caches.new
