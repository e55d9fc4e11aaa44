"""UMT5's encoder in a form that exports: position buckets from the sequence's own length, float32 residual stream.

Half precision overflows in the T5 family at the feed-forward's output (66,246 seen where fp16 ends at 65,504), so that
projection, the residual stream, the norms and the softmax stay float32 whatever the other matrices are. Source of the
arithmetic: transformers, modeling_umt5.py (every layer has a bias table of its own; no 1/sqrt(d); no biases).
"""

import math

import torch
from torch import nn


def position_buckets(length: int, buckets: int, max_distance: int, device=None) -> torch.Tensor:
    """Bidirectional T5 buckets of key - query, int64 [length, length]: half exact, half logarithmic up to max_distance."""
    position = torch.arange(length, device=device)
    offset = position[None, :] - position[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = offset.abs()
    scaled = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + scaled.long()).clamp(max=half - 1)
    return (offset > 0).long() * half + torch.where(distance < exact, distance, far)


class Layer(nn.Module):
    def __init__(self, block, config):
        super().__init__()
        attention, feed = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
        self.heads, self.eps = config.num_heads, config.layer_norm_epsilon
        self.q, self.k, self.v, self.o = attention.q, attention.k, attention.v, attention.o
        self.bias = attention.relative_attention_bias
        self.norm1, self.norm2 = block.layer[0].layer_norm.weight, block.layer[1].layer_norm.weight
        self.gate, self.up, self.down, self.act = feed.wi_0, feed.wi_1, feed.wo, feed.act

    def norm(self, x, weight):
        return weight.float() * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def forward(self, x, buckets, mask):
        matrix_type = self.q.weight.dtype
        split = lambda y: y.unflatten(2, (self.heads, -1)).transpose(1, 2)
        inner = self.norm(x, self.norm1).to(matrix_type)
        bias = self.bias(buckets).float().permute(2, 0, 1).unsqueeze(0)
        scores = (split(self.q(inner)) @ split(self.k(inner)).transpose(2, 3)).float() + bias + mask
        attended = torch.softmax(scores, dim=-1).to(matrix_type) @ split(self.v(inner))
        x = x + self.o(attended.transpose(1, 2).flatten(2)).float()
        inner = self.norm(x, self.norm2).to(matrix_type)
        return x + self.down((self.act(self.gate(inner)) * self.up(inner)).float())


class ExportUmt5Encoder(nn.Module):
    """input_ids and attention_mask int64 [B, S] -> last_hidden_state float32 [B, S, d_model], rows beyond the mask included."""

    def __init__(self, model):
        super().__init__()
        config = model.config
        if not config.is_gated_act:
            raise ValueError(f"feed_forward_proj {config.feed_forward_proj}: only UMT5's gated form is supported")
        self.buckets, self.max_distance, self.eps = config.relative_attention_num_buckets, config.relative_attention_max_distance, config.layer_norm_epsilon
        self.tokens = model.shared
        self.layers = nn.ModuleList([Layer(block, config) for block in model.encoder.block])
        self.final_norm = model.encoder.final_layer_norm.weight

    def halve(self) -> None:
        """Matrices to fp16, except each feed-forward's output projection."""
        self.half()
        for layer in self.layers:
            layer.down.float()

    def forward(self, input_ids, attention_mask):
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        buckets = position_buckets(input_ids.shape[1], self.buckets, self.max_distance, input_ids.device)
        x = self.tokens(input_ids).float()
        for layer in self.layers:
            x = layer(x, buckets, mask)
        return self.final_norm.float() * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))
