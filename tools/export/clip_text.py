"""CLIP's text towers with a padding mask as an input: Compel's down-weights hide fragments from the attention."""

import torch
import torch.nn.functional as F
from torch import nn


class ExportTextEncoder(nn.Module):
    """input_ids, attention_mask int64 [B, S] -> (text_embeds,) last_hidden_state (, pooler_output), hidden_states.0 …

    `hidden_states.N` are before the final layer norm, as transformers returns them.
    """

    def __init__(self, model):
        super().__init__()
        tower = getattr(model, "text_model", model)
        self.embeddings, self.layers, self.final_norm = tower.embeddings, tower.encoder.layers, tower.final_layer_norm
        self.projection = getattr(model, "text_projection", None)
        self.heads = model.config.num_attention_heads
        eos = model.config.eos_token_id
        # 2 is what old configs say for "the highest id"
        self.eos_id = None if eos in (None, 2) else eos

    @property
    def output_names(self) -> list:
        states = [f"hidden_states.{i}" for i in range(len(self.layers) + 1)]
        return (["last_hidden_state", "pooler_output"] if self.projection is None else ["text_embeds", "last_hidden_state"]) + states

    def attend(self, attention, x, mask):
        batch, length, width = x.shape
        split = lambda y: y.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
        q, k, v = split(attention.q_proj(x)), split(attention.k_proj(x)), split(attention.v_proj(x))
        scores = q @ k.transpose(2, 3) * (width // self.heads) ** -0.5 + mask
        return attention.out_proj((torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(batch, length, width))

    def forward(self, input_ids, attention_mask):
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        x = self.embeddings.token_embedding(input_ids) + self.embeddings.position_embedding(positions)
        length = input_ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()[None, None]
        visible = causal & attention_mask[:, None, None, :].bool()
        # a large finite number: minus infinity would turn a fully hidden row into NaN, and fp16 cannot hold float32's lowest
        mask = torch.where(visible, 0.0, -30000.0).to(x.dtype)
        states = [x]
        for layer in self.layers:
            x = x + self.attend(layer.self_attn, layer.layer_norm1(x), mask)
            x = x + layer.mlp(layer.layer_norm2(x))
            states.append(x)
        last = self.final_norm(x)
        ids = input_ids.to(torch.int32)
        rows = ids.argmax(dim=-1) if self.eos_id is None else (ids == self.eos_id).to(torch.int32).argmax(dim=-1)
        pooled = last[torch.arange(last.shape[0], device=last.device), rows]
        if self.projection is None:
            return last, pooled, *states
        return self.projection(pooled), last, *states
