"""Decoupled cross-attention for references (IP-Adapter, arXiv 2308.06721), with the factors per layer as an input.

out = Attn(q, K_text, V_text) + ip_scale[layer] * Attn(q, K_ip, V_ip), summed before the output projection. The branch is always computed, so one
graph serves every reference mode; zero tokens or zero factors leave the plain model, bit for bit.
"""

import torch.nn.functional as F
from torch import nn


def attend(q, k, v, heads):
    """softmax(q k^T / sqrt(d)) v per head on [B, S, heads*d]."""
    split = lambda x: x.unflatten(2, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).flatten(2)


class IpAttention(nn.Module):
    """Attention processor. `index` is the layer's place in `ip_scale`; None for self-attention, which ignores the picture."""

    attend = staticmethod(attend)

    def __init__(self, width=0, source=0, index=None):
        super().__init__()
        self.index = index
        if index is not None:
            self.to_k_ip = nn.Linear(source, width, bias=False)
            self.to_v_ip = nn.Linear(source, width, bias=False)
            nn.init.normal_(self.to_v_ip.weight, std=0.02)

    # __call__, not forward: diffusers reads its parameters to know which arguments a processor takes
    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None, ip_tokens=None, ip_scale=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q = attn.to_q(hidden_states)
        y = self.attend(q, attn.to_k(context), attn.to_v(context), attn.heads)
        if self.index is not None:
            y = y + ip_scale[:, self.index].view(-1, 1, 1) * self.see(q, attn.heads, ip_tokens)
        return attn.to_out[1](attn.to_out[0](y))

    def see(self, q, heads, ip_tokens):
        return self.attend(q, self.to_k_ip(ip_tokens), self.to_v_ip(ip_tokens), heads)


def layer_names(unet) -> list:
    """Cross-attention layers in the order of `ip_scale`."""
    return [name.removesuffix(".processor") for name in unet.attn_processors if ".attn2." in name]


def install(unet, make=lambda path: IpAttention) -> None:
    """Gives every attention of the UNet its processor; new weights in the cross-attention ones. `make(path)` names the kind of a layer."""
    names = layer_names(unet)
    modules = dict(unet.named_modules())
    processors = {}
    for name in unet.attn_processors:
        path = name.removesuffix(".processor")
        attn = modules[path]
        processors[name] = make(path)(attn.inner_dim, attn.cross_attention_dim, names.index(path)) if path in names else IpAttention()
    unet.set_attn_processor(processors)
