"""
Trains the pocket Qwen model from nothing: tokenizer, data, model, GGUF.

    python train.py --out DIR [--seconds 200] [--data-seconds 40] [--workers 15]
    python train.py --resume DIR --out DIR --seconds 100 --rate-scale 0.4 --seed 5000

Writes qwen.gguf, tokenizer.json and report.json into DIR and prints the scores. Data are made by processes of their own
while torch loads and compiles, and as many again during the training; the schedule follows elapsed time, so the result
arrives on time on any machine.
"""
import argparse
import json
import math
import multiprocessing
import os
import random
import time

import numpy as np

COPIES = 0.16
WIDTHS = np.array([96, 128, 160, 224, 320, 512, 1024])


class Corpus:
    """Documents on the device, grouped by the width they are padded to. A batch always has the rows that fill it, so that every width is one shape."""

    def __init__(self, device, batch_tokens):
        self.device, self.batch_tokens, self.rng = device, batch_tokens, np.random.default_rng(0)
        self.tokens, self.learn, self.lengths = None, None, np.zeros(0, np.int64)

    def add(self, parts):
        import torch
        tokens, learn, lengths = (np.concatenate([p[n] for p in parts]) for n in range(3))
        tokens, learn = torch.from_numpy(tokens.astype(np.int32)).to(self.device), torch.from_numpy(learn).to(self.device)
        self.tokens = tokens if self.tokens is None else torch.cat((self.tokens, tokens))
        self.learn = learn if self.learn is None else torch.cat((self.learn, learn))
        self.lengths = np.concatenate((self.lengths, lengths))
        self.starts = torch.from_numpy(np.concatenate([[0], np.cumsum(self.lengths)[:-1]])).to(self.device)
        self.ends = self.starts + torch.from_numpy(self.lengths).to(self.device)

    def rows(self, width):
        return max(1, self.batch_tokens // int(width))

    def epoch(self):
        bucket, groups = np.searchsorted(WIDTHS, self.lengths), []
        for b, width in enumerate(WIDTHS):
            members, size = self.rng.permutation(np.nonzero(bucket == b)[0]), self.rows(width)
            if len(members):
                members = np.concatenate((members, self.rng.choice(members, -len(members) % size)))
            groups += [(int(width), members[i:i + size]) for i in range(0, len(members), size)]
        for g in self.rng.permutation(len(groups)):
            yield groups[g]

    def batch(self, width, members):
        """Token ids [rows, width] and which of the tokens after the first are to be learnt."""
        import torch
        rows = torch.from_numpy(members).to(self.device, non_blocking=True)
        where = self.starts[rows, None] + torch.arange(width, device=self.device)
        inside = where < self.ends[rows, None]
        where = where.clamp(max=len(self.tokens) - 1)
        return self.tokens[where].long() * inside, (self.learn[where] & inside)[:, 1:]


def make_data(seed, tokenizer_text, seconds, longest):
    """Documents made within `seconds`: tokens (uint16), mask of learnt tokens, lengths."""
    from tokenizers import Tokenizer

    from documents import copy, document, encode
    from tokenizer import with_dropout
    tokenizer = Tokenizer.from_str(tokenizer_text)
    dropped = with_dropout(tokenizer, 0.15)
    r = random.Random(seed)
    tokens, masks, lengths = [], [], []
    end = time.time() + seconds
    while time.time() < end:
        ids, learn = copy(r, tokenizer) if r.random() < COPIES else encode(tokenizer, dropped, document(r))
        if len(ids) <= longest:
            tokens.append(np.array(ids, np.uint16))
            masks.append(np.array(learn, bool))
            lengths.append(len(ids))
    return np.concatenate(tokens), np.concatenate(masks), np.array(lengths, np.int64)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", required=True)
    a.add_argument("--seconds", type=float, default=200)
    a.add_argument("--data-seconds", type=float, default=40)
    a.add_argument("--workers", type=int, default=15)
    a.add_argument("--batch-tokens", type=int, default=32768)
    a.add_argument("--rate", type=float, default=2.5e-3, help="of embedding and vectors (AdamW)")
    a.add_argument("--matrix-rate", type=float, default=0.02, help="of the layers' matrices (Muon)")
    a.add_argument("--rate-scale", type=float, default=1, help="of both")
    a.add_argument("--resume", help="folder with qwen.gguf and tokenizer.json to go on from")
    a.add_argument("--seed", type=int, default=1000, help="of the documents")
    a.add_argument("--check", type=int, default=300)
    a.add_argument("--tokenizer-documents", type=int, default=16000)
    args = a.parse_args()
    begun = time.time()
    say = lambda *what: print(f"[{time.time() - begun:6.1f}]", *what, flush=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.makedirs(args.out, exist_ok=True)

    import tokenizer as tokenizers_
    tokenizer = tokenizers_.train(args.tokenizer_documents) if args.resume is None else tokenizers_.load(os.path.join(args.resume, "tokenizer.json"))
    text = tokenizer.to_str()
    tokenizer.save(os.path.join(args.out, "tokenizer.json"))
    say("tokenizer", tokenizer.get_vocab_size())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pool = multiprocessing.get_context("spawn").Pool(args.workers)
    made = pool.starmap_async(make_data, [(args.seed + n, text, args.data_seconds, 1024) for n in range(args.workers)])

    import torch
    import torch.nn.functional as F

    import gguf
    from check import full_prompt, make_items, report, show
    from model import CONFIG, Qwen2, generate
    from muon import Muon
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = Qwen2(tokenizer.get_vocab_size()).to(device)
    if args.resume is not None:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in gguf.read(os.path.join(args.resume, "qwen.gguf"), CONFIG["layers"]).items()})
    corpus = Corpus(device, args.batch_tokens)

    def loss_of(ids, wanted):
        with torch.autocast(device.type, torch.bfloat16):
            logits = model.logits(model.hidden(ids)[:, :-1][wanted])
        return F.cross_entropy(logits.float(), ids[:, 1:][wanted])

    if device.type == "cuda":
        import torch._dynamo as dynamo
        dynamo.config.cache_size_limit = 64
        # a layer that does not compile runs as it is: time on the device is worth more than speed
        dynamo.config.suppress_errors = True
        for layer in model.layers:
            layer.compile(dynamic=False)
        for width in WIDTHS:
            ids = torch.randint(3, tokenizer.get_vocab_size(), (corpus.rows(width), int(width)), device=device)
            loss_of(ids, ids[:, 1:] > 1000).backward()
        torch.cuda.synchronize()
        model.zero_grad(set_to_none=True)
        say("compiled")
    corpus.add(made.get())
    made = pool.starmap_async(make_data, [(args.seed + 1000 + n, text, args.data_seconds, 1024) for n in range(args.workers)])
    lengths = corpus.lengths
    say(f"{len(lengths)} documents, {len(corpus.tokens) / 1e6:.1f} M tokens, {int(corpus.learn.sum()) / 1e6:.1f} M learnt; mean {lengths.mean():.0f}, 99 % {np.percentile(lengths, 99):.0f}; {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    muon = Muon(matrices)
    adam = torch.optim.AdamW([{"params": [model.embed_tokens.weight], "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], lr=args.rate, betas=(0.9, 0.98), fused=device.type == "cuda")
    items = make_items(world=args.check, outside=args.check, follow_ups=args.check * 2 // 3)
    prompts = [tokenizer.encode(full_prompt(i)).ids for i in items]
    stops = torch.tensor([0, 2], device=device)

    def scores(temperature, pick=1, exact=False):
        model.eval()
        with torch.compiler.set_stance("force_eager"):
            answers = generate(model, prompts[::pick], stops, temperature=temperature, exact=exact)
        model.train()
        return report(items[::pick], [None if x is None else tokenizer.decode(x) for x in answers])

    trained_from, paused, step, seen, next_check, curve = time.time(), 0.0, 0, 0, 0.33, []
    total, share, told = torch.zeros((), device=device), 0.0, 0
    while share < 1:
        if made is not None and made.ready():
            corpus.add(made.get())
            pool.terminate()
            made = None
            say(f"{len(corpus.lengths)} documents")
        for width, members in corpus.epoch():
            share = (time.time() - trained_from - paused) / args.seconds
            if share >= 1 or (made is not None and step % 50 == 0 and made.ready()):
                break
            factor = args.rate_scale * min(1, (step + 1) / 150) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
            for group in adam.param_groups:
                group["lr"] = args.rate * factor
            loss = loss_of(*corpus.batch(width, members))
            adam.zero_grad(set_to_none=True)
            for p in matrices:
                p.grad = None
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            muon.step(args.matrix_rate * factor)
            total += loss.detach()
            step += 1
            seen += len(members)
            if step % 400 == 0 or step == 20:
                say(f"step {step} loss {float(total) / (step - told):.4f} documents {seen}")
                total.zero_()
                told = step
            if share > next_check:
                next_check += 0.33
                before = time.time()
                rows_ = scores(0, 6)
                curve.append({"step": step, **{k: round(v["kept"] / v["n"], 3) for k, v in rows_.items()}})
                say({k: v for k, v in curve[-1].items() if k in ("step", "world", "outside", "outside long", "followup")})
                paused += time.time() - before
    pool.terminate()
    say(f"trained {step} steps, {seen} documents")

    # the weights as the file holds them, for the scores as well
    with torch.no_grad():
        for p in matrices + [model.embed_tokens.weight]:
            p.copy_(p.half().float())
    state = {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}
    gguf.write(os.path.join(args.out, "qwen.gguf"), state, CONFIG, text)
    say("written", os.path.getsize(os.path.join(args.out, "qwen.gguf")))
    final = {}
    for temperature in (0, 0.7):
        rows_ = scores(temperature, exact=True)
        print(f"temperature {temperature}")
        show(rows_, 25 if temperature == 0 else 5, None)
        final[str(temperature)] = rows_
    say("checked")
    with open(os.path.join(args.out, "report.json"), "w") as file:
        json.dump({"steps": step, "documents": seen, "made": len(corpus.lengths), "tokens": len(corpus.tokens), "curve": curve, "scores": final}, file, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
