"""Wan's transformer in a form that exports: real-valued rotary positions, fused attention, sizes free at run time.

Attention is the operator com.microsoft.MultiHeadAttention, which never materialises the score matrix on GPU
providers: 832x480x81 has 32,760 tokens, 51.5 GB of fp32 scores per layer. Source of the arithmetic: diffusers,
transformer_wan.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from common import FusedAttention


class Rotary(nn.Module):
    """3-axis rotary positions as [1, tokens, 1, head_dim/2] tables, rounded to float32 after float64 arithmetic."""

    def __init__(self, rope, patch_size):
        super().__init__()
        self.patch_size = patch_size
        self.splits = [rope.t_dim // 2, rope.h_dim // 2, rope.w_dim // 2]
        self.register_buffer("cos", rope.freqs_cos[:, 0::2].float().contiguous())
        self.register_buffer("sin", rope.freqs_sin[:, 1::2].float().contiguous())

    def forward(self, hidden_states):
        _, _, frames, height, width = hidden_states.shape
        sizes = [frames // self.patch_size[0], height // self.patch_size[1], width // self.patch_size[2]]

        def table(values):
            axes = []
            for axis, (part, size) in enumerate(zip(values.split(self.splits, dim=1), sizes)):
                shape = [1, 1, 1, -1]
                shape[axis] = size
                axes.append(part[:size].reshape(shape).expand(sizes[0], sizes[1], sizes[2], self.splits[axis]))
            return torch.cat(axes, dim=-1).reshape(1, sizes[0] * sizes[1] * sizes[2], 1, sum(self.splits))

        return table(self.cos), table(self.sin)


class Attention(nn.Module):
    def __init__(self, attention):
        super().__init__()
        if attention.add_k_proj is not None:
            raise ValueError("image-to-video attention (add_k_proj) is not supported: only text-to-video and VACE are")
        self.heads = attention.heads
        self.to_q, self.to_k, self.to_v, self.to_out = attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]
        self.norm_q, self.norm_k = attention.norm_q, attention.norm_k

    def norm(self, layer, x):
        # RMS over all heads together, in float32
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + layer.eps)
        return wide * layer.weight.float()

    def rotate(self, x, rotary):
        cos, sin = rotary
        x1, x2 = x.unflatten(2, (self.heads, -1, 2)).unbind(-1)
        return torch.stack((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).flatten(2)

    def forward(self, x, context, rotary):
        q, k = self.norm(self.norm_q, self.to_q(x)), self.norm(self.norm_k, self.to_k(context))
        if rotary is not None:
            q, k = self.rotate(q, rotary), self.rotate(k, rotary)
        return self.to_out(FusedAttention.apply(q.to(x.dtype), k.to(x.dtype), self.to_v(context), self.heads))


def layer_norm(x, weight=None, bias=None, *, dim: int, eps: float):
    # the literal size keeps the exporter from asking for a constant shape
    return F.layer_norm(x.float(), [dim], weight if weight is None else weight.float(), bias if bias is None else bias.float(), eps)


class Block(nn.Module):
    """float32 residual stream, norms and modulation; matrices in the weights' own type."""

    def __init__(self, block, dim, eps):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.attn1, self.attn2, self.ffn = Attention(block.attn1), Attention(block.attn2), block.ffn
        self.cross_norm = block.norm2 if isinstance(block.norm2, nn.LayerNorm) else None
        self.register_buffer("table", block.scale_shift_table.detach().float())

    def forward(self, x, context, modulation, rotary):
        matrix_type = self.attn1.to_q.weight.dtype
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.table + modulation).chunk(6, dim=1)
        inner = (layer_norm(x, dim=self.dim, eps=self.eps) * (1 + scale1) + shift1).to(matrix_type)
        x = x + self.attn1(inner, inner, rotary).float() * gate1
        inner = (x if self.cross_norm is None else layer_norm(x, self.cross_norm.weight, self.cross_norm.bias, dim=self.dim, eps=self.eps)).to(matrix_type)
        x = x + self.attn2(inner, context, None).float()
        inner = (layer_norm(x, dim=self.dim, eps=self.eps) * (1 + scale2) + shift2).to(matrix_type)
        return x + self.ffn(inner).float() * gate2


class VaceBlock(nn.Module):
    """A side block of VACE: carries the control stream on and gives one hint for the main stream."""

    def __init__(self, block, dim, eps):
        super().__init__()
        self.block, self.proj_in, self.proj_out = Block(block, dim, eps), block.proj_in, block.proj_out

    def forward(self, control, x, context, modulation, rotary):
        matrix_type = self.proj_out.weight.dtype
        if self.proj_in is not None:
            control = self.proj_in(control.to(matrix_type)).float() + x
        control = self.block(control, context, modulation, rotary)
        return control, self.proj_out(control.to(matrix_type)).float()


def patches(conv: nn.Conv3d, volume):
    """[B, C, F, h, w] -> float32 tokens [B, F*rows*columns, dim], by a 2D convolution over every frame."""
    batch, channels, frames, height, width = volume.shape
    planes = volume.transpose(1, 2).reshape(batch * frames, channels, height, width)
    x = F.conv2d(planes, conv.weight[:, :, 0], conv.bias, stride=conv.stride[1:]).flatten(2).transpose(1, 2)
    tokens = frames * (height // conv.stride[1]) * (width // conv.stride[2])
    return x.reshape(batch, tokens, conv.out_channels).float()


class ExportTransformer(nn.Module):
    """hidden_states [B, C, F, h, w], timestep int64 [B], encoder_hidden_states [B, S, text_dim] -> sample like hidden_states.

    A VACE model takes two more: control_hidden_states [B, vace channels, F, h, w] and control_hidden_states_scale [hints].
    """

    def __init__(self, model):
        super().__init__()
        config = model.config
        self.dim, self.eps, self.patch_size, self.out_channels = config.num_attention_heads * config.attention_head_dim, config.eps, config.patch_size, config.out_channels
        if config.patch_size[0] != 1:
            raise ValueError(f"patch_size {config.patch_size}: a temporal patch other than 1 is not supported")
        self.rotary = Rotary(model.rope, config.patch_size)
        self.patch_embedding = model.patch_embedding
        embedder = model.condition_embedder
        self.time_proj, self.time_embedder, self.modulation = embedder.timesteps_proj, embedder.time_embedder, embedder.time_proj
        self.text_embedder = embedder.text_embedder
        self.blocks = nn.ModuleList([Block(block, self.dim, self.eps) for block in model.blocks])
        self.vace_layers = list(config.get("vace_layers") or [])
        self.vace_patch_embedding = model.vace_patch_embedding if self.vace_layers else None
        self.vace_blocks = nn.ModuleList([VaceBlock(block, self.dim, self.eps) for block in (model.vace_blocks if self.vace_layers else [])])
        self.proj_out = model.proj_out
        self.register_buffer("table", model.scale_shift_table.detach().float())

    def halve(self) -> None:
        """Attention, feed-forward and text matrices to fp16; norms, modulation, time embedding and the ends stay float32."""
        for block in [*self.blocks, *(side.block for side in self.vace_blocks)]:
            for attention in (block.attn1, block.attn2):
                for matrix in (attention.to_q, attention.to_k, attention.to_v, attention.to_out):
                    matrix.half()
            block.ffn.half()
        for side in self.vace_blocks:
            side.proj_out.half()
            if side.proj_in is not None:
                side.proj_in.half()
        self.text_embedder.half()

    def forward(self, hidden_states, timestep, encoder_hidden_states, control_hidden_states=None, control_hidden_states_scale=None):
        batch, _, frames, height, width = hidden_states.shape
        p_h, p_w = self.patch_size[1], self.patch_size[2]
        rows, columns = height // p_h, width // p_w
        rotary = self.rotary(hidden_states)
        x = patches(self.patch_embedding, hidden_states)

        time_type = self.time_embedder.linear_1.weight.dtype
        embedding = self.time_embedder(self.time_proj(timestep).to(time_type))
        modulation = self.modulation(F.silu(embedding)).float().unflatten(1, (6, self.dim))
        context = self.text_embedder(encoder_hidden_states.to(self.text_embedder.linear_1.weight.dtype))
        hints = {}
        if self.vace_layers:
            control = patches(self.vace_patch_embedding, control_hidden_states)
            for i, (layer, side) in enumerate(zip(self.vace_layers, self.vace_blocks, strict=True)):
                control, hint = side(control, x, context, modulation, rotary)
                hints[layer] = hint * control_hidden_states_scale[i]
        for i, block in enumerate(self.blocks):
            x = block(x, context, modulation, rotary)
            if i in hints:
                x = x + hints[i]

        shift, scale = (self.table + embedding.float().unsqueeze(1)).chunk(2, dim=1)
        x = self.proj_out((layer_norm(x, dim=self.dim, eps=self.eps) * (1 + scale) + shift).to(self.proj_out.weight.dtype)).float()
        x = x.reshape(batch, frames, rows, columns, p_h, p_w, self.out_channels)
        return x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, self.out_channels, frames, height, width)
