"""What both training scripts share: evaluation in other processes, gradients that cannot spoil the weights."""

import sys
from pathlib import Path

import torch

import check

sys.path.append(str(Path(__file__).parents[1]))
from schedule import Ema, cosine, say  # noqa: E402, F401


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
