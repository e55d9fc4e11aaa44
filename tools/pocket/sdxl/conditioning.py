"""Captions as the worker conditions on them: both encoders' rows, the pooled vector, and Compel's arithmetic on a weighted phrase."""

import math

import torch

WINDOW = 77


class Conditioner:
    def __init__(self, first, second, device):
        self.first, self.second, self.device = first.to(device), second.to(device), device

    @classmethod
    def read(cls, folder, device):
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        return cls(*(kind.from_pretrained(folder / name, torch_dtype=torch.float32) for kind, name in ((CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2"))), device)

    def encode(self, ids, length, mask=None):
        """([B, 77, 320], [B, 192]); the second tokenizer pads with id 0. `mask` hides positions from the attention."""
        padded = torch.arange(WINDOW, device=ids.device)[None] >= length[:, None]
        mask = torch.ones_like(ids) if mask is None else mask
        first = self.first(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-2]
        second = self.second(ids.masked_fill(padded, 0), attention_mask=mask, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], -1), second.text_embeds

    @torch.no_grad()
    def empty(self):
        first, last = self.first.config.bos_token_id, self.first.config.eos_token_id
        return self.encode(torch.tensor([[first] + [last] * (WINDOW - 1)], device=self.device), torch.tensor([2], device=self.device))

    @torch.no_grad()
    def weighted(self, ids, length, span, weight):
        """The span's rows at e + w(z - e); with w < 1 averaged with the text in which the span is hidden, at tan((1-w)pi/2) to 1."""
        plain, pooled = self.encode(ids, length)
        empty = self.empty()[0]
        place = torch.arange(WINDOW, device=ids.device)[None]
        inside = (place >= span[:, :1]) & (place < span[:, 1:])
        factor = torch.where(inside, weight.view(-1, 1), 1.0).unsqueeze(-1)
        rows = empty + factor * (plain - empty)
        less = ((weight < 1) & inside.any(1)).nonzero().flatten()
        if len(less):
            hidden, _ = self.encode(ids[less], length[less], (~inside[less]).long())
            share = torch.tan((1 - weight[less].clamp(min=1e-5)) * math.pi / 2).view(-1, 1, 1)
            rows[less] = (rows[less] + share * (empty + factor[less] * (hidden - empty))) / (1 + share)
        return rows, pooled
