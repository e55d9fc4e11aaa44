"""Captions as the worker conditions on them: both encoders' rows, the pooled vector, and Compel's arithmetic on a weighted phrase."""

import math

import torch

WINDOW = 77


def word_ids(word, vocab):
    """Ids of one word; unknown ones letter by letter, near enough to what their merges give."""
    known = vocab.get(word + "</w>")
    return [known] if known is not None else [vocab[c] for c in word[:-1]] + [vocab[word[-1] + "</w>"]]


def frame_caption(words, span, vocab):
    """(ids padded with the end token, length with both ends, positions of the words in `span`)."""
    row, starts = [vocab["<|startoftext|>"]], []
    for word in words:
        starts.append(len(row))
        row += word_ids(word, vocab)
    starts.append(len(row))
    row = row[: WINDOW - 1] + [vocab["<|endoftext|>"]]
    positions = (starts[span[0]], starts[span[1]]) if span[1] > span[0] else (0, 0)
    return row + [vocab["<|endoftext|>"]] * (WINDOW - len(row)), len(row), positions


class Conditioner:
    def __init__(self, folder, vocab, device):
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        self.vocab, self.device = vocab, device
        self.first = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32).to(device).eval().requires_grad_(False)
        self.second = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2", torch_dtype=torch.float32).to(device).eval().requires_grad_(False)

    def encode(self, ids, length, mask=None):
        """([B, 77, 320], [B, 192]); the second tokenizer pads with id 0. `mask` hides positions from the attention."""
        padded = torch.arange(WINDOW, device=ids.device)[None] >= length[:, None]
        mask = torch.ones_like(ids) if mask is None else mask
        first = self.first(ids, attention_mask=mask, output_hidden_states=True).hidden_states[-2]
        second = self.second(ids.masked_fill(padded, 0), attention_mask=mask, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], -1), second.text_embeds

    @torch.no_grad()
    def empty(self):
        ids, length, _ = frame_caption([], (0, 0), self.vocab)
        return self.encode(torch.tensor([ids], device=self.device), torch.tensor([length], device=self.device))

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

    @torch.no_grad()
    def encode_all(self, data):
        """All captions once, fp16; 49 KB a caption."""
        count = data["ids"].shape[0]
        embeds = torch.empty(count, WINDOW, 320, dtype=torch.float16, device=self.device)
        pooled = torch.empty(count, 192, dtype=torch.float16, device=self.device)
        for rows in torch.arange(count, device=self.device).split(2048):
            embeds[rows], pooled[rows] = (x.half() for x in self.weighted(data["ids"][rows].long(), data["length"][rows], data["span"][rows], data["weight"][rows]))
        return embeds, pooled
