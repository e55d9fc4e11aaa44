"""Qwen2 in torch: its parameter names, grouped-query attention with bias on q, k, v, SwiGLU, RMS norm, rotary positions, tied embeddings."""
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = dict(layers=6, width=256, heads=4, kv_heads=2, feed_forward=768, context=2048, rope_base=10000.0, rms_eps=1e-6)


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.kv_heads, self.size = c["heads"], c["kv_heads"], c["width"] // c["heads"]
        self.q_proj = nn.Linear(c["width"], self.heads * self.size)
        self.k_proj = nn.Linear(c["width"], self.kv_heads * self.size)
        self.v_proj = nn.Linear(c["width"], self.kv_heads * self.size)
        self.o_proj = nn.Linear(self.heads * self.size, c["width"], bias=False)

    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        q = self.q_proj(x).view(b, n, self.heads, self.size).transpose(1, 2)
        k = self.k_proj(x).view(b, n, self.kv_heads, self.size).transpose(1, 2)
        v = self.v_proj(x).view(b, n, self.kv_heads, self.size).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        groups = self.heads // self.kv_heads
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1), is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, -1))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


class FeedForward(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c["width"], c["feed_forward"], bias=False)
        self.up_proj = nn.Linear(c["width"], c["feed_forward"], bias=False)
        self.down_proj = nn.Linear(c["feed_forward"], c["width"], bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(c["width"], c["rms_eps"]), Attention(c)
        self.post_attention_layernorm, self.mlp = RMSNorm(c["width"], c["rms_eps"]), FeedForward(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen2(nn.Module):
    def __init__(self, vocabulary, c=CONFIG):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(vocabulary, c["width"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["layers"]))
        self.norm = RMSNorm(c["width"], c["rms_eps"])
        size = c["width"] // c["heads"]
        angles = torch.outer(torch.arange(c["context"]).float(), c["rope_base"] ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat((angles, angles), -1).sin(), persistent=False)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02 if isinstance(module, nn.Embedding) else module.weight.shape[1] ** -0.5 * 0.7)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.layers:
            for out in (layer.self_attn.o_proj, layer.mlp.down_proj):
                out.weight.data.mul_((2 * c["layers"]) ** -0.5)

    def hidden(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)


@torch.no_grad()
def generate(model, prompts, stops, limit=400, temperature=0.0, top_p=0.8, top_k=20, seed=0, batch=128, exact=False):
    """Token ids of the answers to `prompts` (lists of ids), each without its stop token; None when the limit was reached. `exact`: in float32."""
    device = model.cos.device
    draw = torch.Generator(device=device).manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [None] * len(prompts)
    for start in range(0, len(order), batch):
        group = order[start:start + batch]
        lengths = torch.tensor([len(prompts[i]) for i in group], device=device)
        ids = torch.zeros(len(group), min(model.c["context"], int(lengths.max()) + limit), dtype=torch.long, device=device)
        for row, i in enumerate(group):
            ids[row, : len(prompts[i])] = torch.tensor(prompts[i], device=device)
        first, done = lengths.clone(), torch.zeros(len(group), dtype=torch.bool, device=device)
        rows = torch.arange(len(group), device=device)
        while not bool(done.all()) and int(lengths.max()) < ids.shape[1]:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and not exact):
                hidden = model.hidden(ids[:, : int(lengths.max())])
            scores = model.logits(hidden[rows, lengths - 1].float())
            if temperature == 0:
                chosen = scores.argmax(-1)
            else:
                best, where = (scores / temperature).topk(top_k)
                p = best.softmax(-1)
                p = p.masked_fill(p.cumsum(-1) - p > top_p, 0)
                chosen = where.gather(1, torch.multinomial(p, 1, generator=draw))[:, 0]
            done |= torch.isin(chosen, stops)
            ids[rows[~done], lengths[~done]] = chosen[~done]
            lengths = lengths + (~done).long()
        for row, i in enumerate(group):
            if bool(done[row]):
                answers[i] = ids[row, int(first[row]): int(lengths[row])].tolist()
    return answers
