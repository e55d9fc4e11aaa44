"""What both training scripts share: schedules on elapsed time, the mean of the weights, evaluation in other processes."""

import math
import time

import torch

import check

started = time.time()


def say(*what):
    print(f"[{time.time() - started:6.1f}]", *what, flush=True)


def cosine(share, step, warmup):
    """Factor of the learning rate after `share` of the time."""
    return min(1, (step + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))


class Ema:
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


def clip_gradients(parameters):
    """Norm at most 1; a step whose gradients are not finite changes nothing but the momentum's age."""
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for p in parameters:
        if p.grad is not None:
            p.grad.nan_to_num_(0, 0, 0)


def stated(item):
    return {k: v for k, v in item.items() if k != "scene"}


def check_later(pool, items, clips):
    """Begins the pixel check of uint8 clips in the pool; `.get()` gives the lists of wrong items."""
    return pool.starmap_async(check.judge, [(stated(item), clip) for item, clip in zip(items, clips)], chunksize=4)


def settle(device):
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    if device == "cuda":
        import torch._dynamo as dynamo

        dynamo.config.cache_size_limit = 64
        # a function that does not compile runs as it is: the time on the device is worth more than the speed
        dynamo.config.suppress_errors = True
