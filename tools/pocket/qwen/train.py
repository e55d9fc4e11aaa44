"""
Trains the pocket Qwen model from nothing: tokenizer, data, model, GGUF.

    python train.py --out DIR [--seconds 110] [--data-seconds 26] [--workers 15]

Writes qwen.gguf, tokenizer.json and report.json into DIR. Data are made by processes of their own while torch loads; the
schedule follows elapsed time, so the result arrives on time on any machine.
"""
import argparse
import json
import math
import multiprocessing
import os
import random
import time

import numpy as np


def make_data(seed, tokenizer_text, seconds, longest):
    """Documents made within `seconds`: tokens (uint16), mask of learnt tokens, lengths."""
    from tokenizers import Tokenizer

    from documents import document, encode
    from tokenizer import with_dropout
    tokenizer = Tokenizer.from_str(tokenizer_text)
    dropped = with_dropout(tokenizer, 0.15)
    r = random.Random(seed)
    tokens, masks, lengths = [], [], []
    end = time.time() + seconds
    while time.time() < end:
        ids, learn = encode(tokenizer, dropped, document(r))
        if len(ids) <= longest:
            tokens.append(np.array(ids, np.uint16))
            masks.append(np.array(learn, bool))
            lengths.append(len(ids))
    return np.concatenate(tokens), np.concatenate(masks), np.array(lengths, np.int64)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", required=True)
    a.add_argument("--seconds", type=float, default=110)
    a.add_argument("--data-seconds", type=float, default=26)
    a.add_argument("--workers", type=int, default=15)
    a.add_argument("--batch-tokens", type=int, default=32768)
    a.add_argument("--rate", type=float, default=2.5e-3)
    a.add_argument("--check", type=int, default=300)
    a.add_argument("--tokenizer-documents", type=int, default=16000)
    args = a.parse_args()
    begun = time.time()
    say = lambda *what: print(f"[{time.time() - begun:6.1f}]", *what, flush=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.makedirs(args.out, exist_ok=True)

    import tokenizer as tokenizers_
    tokenizer = tokenizers_.train(args.tokenizer_documents)
    text = tokenizer.to_str()
    tokenizer.save(os.path.join(args.out, "tokenizer.json"))
    say("tokenizer", tokenizer.get_vocab_size())
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    pool = multiprocessing.get_context("spawn").Pool(args.workers)
    made = pool.starmap_async(make_data, [(1000 + n, text, args.data_seconds, 1024) for n in range(args.workers)])

    import torch
    import torch.nn.functional as F

    import gguf
    from check import full_prompt, make_items, report, show
    from model import CONFIG, Qwen2, generate
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = Qwen2(tokenizer.get_vocab_size()).to(device)
    parts = made.get()
    pool.terminate()
    lengths = np.concatenate([p[2] for p in parts])
    tokens = torch.from_numpy(np.concatenate([p[0] for p in parts]).astype(np.int32)).to(device)
    learn = torch.from_numpy(np.concatenate([p[1] for p in parts])).to(device)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    say(f"{len(lengths)} documents, {len(tokens) / 1e6:.1f} M tokens, {int(learn.sum()) / 1e6:.1f} M learnt; mean {lengths.mean():.0f}, 99 % {np.percentile(lengths, 99):.0f}; {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    widths = np.array([64, 96, 128, 160, 192, 224, 256, 320, 384, 512, 640, 768, 1024])
    bucket = np.searchsorted(widths, lengths)
    rng = np.random.default_rng(0)

    def batches():
        while True:
            groups = []
            for b, width in enumerate(widths):
                members = rng.permutation(np.nonzero(bucket == b)[0])
                size = max(1, args.batch_tokens // width)
                groups += [(width, members[i:i + size]) for i in range(0, len(members), size)]
            for g in rng.permutation(len(groups)):
                yield groups[g]

    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}], lr=args.rate, betas=(0.9, 0.98), fused=device.type == "cuda")
    items = make_items(world=args.check, outside=args.check, follow_ups=args.check * 2 // 3)
    prompts = [tokenizer.encode(full_prompt(i)).ids for i in items]
    stops = torch.tensor([0, 2], device=device)

    def scores(temperature, pick=1):
        model.eval()
        answers = generate(model, prompts[::pick], stops, temperature=temperature)
        model.train()
        return report(items[::pick], [None if x is None else tokenizer.decode(x) for x in answers])

    trained_from, paused, step, seen, next_check, curve = time.time(), 0.0, 0, 0, 0.3, []
    ends = torch.from_numpy(starts + lengths).to(device)
    starts_device = torch.from_numpy(starts).to(device)
    total = torch.zeros((), device=device)
    for width, members in batches():
        spent = time.time() - trained_from - paused
        share = spent / args.seconds
        if share >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 150) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))
        rows = torch.from_numpy(members).to(device, non_blocking=True)
        where = starts_device[rows, None] + torch.arange(int(width), device=device)
        inside = where < ends[rows, None]
        where = where.clamp(max=len(tokens) - 1)
        ids = tokens[where].long() * inside
        wanted = (learn[where] & inside)[:, 1:]
        with torch.autocast(device.type, torch.bfloat16):
            hidden = model.hidden(ids[:, :-1])
            logits = model.logits(hidden[wanted])
        loss = F.cross_entropy(logits.float(), ids[:, 1:][wanted])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        total += loss.detach()
        step += 1
        seen += len(members)
        if step % 200 == 0:
            say(f"step {step} loss {float(total) / 200:.4f} documents {seen}")
            total.zero_()
        if share > next_check:
            next_check += 0.3
            before = time.time()
            rows_ = scores(0, 6)
            curve.append({"step": step, **{k: round(v["kept"] / v["n"], 3) for k, v in rows_.items() if " " not in k}})
            say(curve[-1])
            paused += time.time() - before
    say(f"trained {step} steps, {seen} documents")

    state = {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}
    gguf.write(os.path.join(args.out, "qwen.gguf"), state, CONFIG, text)
    say("written", os.path.getsize(os.path.join(args.out, "qwen.gguf")))
    final = {}
    for temperature in (0, 0.7):
        rows_ = scores(temperature)
        print(f"temperature {temperature}")
        show(rows_, 15, None)
        final[str(temperature)] = rows_
    say("checked")
    with open(os.path.join(args.out, "report.json"), "w") as file:
        json.dump({"steps": step, "documents": seen, "made": len(lengths), "tokens": len(tokens), "curve": curve, "scores": final}, file, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main()
