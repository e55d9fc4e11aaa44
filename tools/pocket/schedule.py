"""What every training script shares: schedules on elapsed time, the mean of the weights, and the files they are written to."""

import math
import time

import torch

started = time.time()


def say(*what):
    print(f"[{time.time() - started:6.1f}]", *what, flush=True)


def cosine(share, step, warmup):
    """Factor of the learning rate after `share` of the time."""
    return min(1, (step + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


def save_flat(weights, out, name, count, metadata=None):
    """fp16 weights in `count` files of equal size."""
    from safetensors.torch import save_file

    parts, sizes = [{} for _ in range(count)], [0] * count
    for key, value in sorted(weights.items(), key=lambda entry: -entry[1].numel()):
        i = sizes.index(min(sizes))
        parts[i][key] = value.detach().half().contiguous().cpu().clone()
        sizes[i] += value.numel()
    for i, part in enumerate(parts):
        save_file(part, out / f"{name}-{i}.safetensors", metadata)


class Ema:
    """Moving mean of the modules' weights; as a context the modules hold the mean."""

    def __init__(self, modules, decay):
        self.decay, self.count = decay, 0
        self.live = [p for m in modules for p in m.parameters()]
        self.mean = [p.detach().clone() for p in self.live]

    @torch.no_grad()
    def update(self):
        self.count += 1
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - min(self.decay, (1 + self.count) / (10 + self.count)))

    @torch.no_grad()
    def swap(self):
        for p, m in zip(self.live, self.mean):
            kept = p.detach().clone()
            p.copy_(m)
            m.copy_(kept)

    def __enter__(self):
        self.swap()

    def __exit__(self, *_):
        self.swap()
