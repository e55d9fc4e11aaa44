"""What both training scripts share: several GPUs, evaluation in other processes, gradients that cannot spoil the weights."""

import os
import sys
from pathlib import Path

import torch

import check

sys.path.append(str(Path(__file__).parents[1]))
from schedule import Ema, cosine, save_flat, say  # noqa: E402, F401


class Team:
    """The processes `torchrun --nproc-per-node N` started, one a GPU; alone without it. Every member takes the same steps."""

    def __init__(self):
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.leads = self.rank == 0
        if self.size > 1:
            if torch.cuda.is_available():
                torch.cuda.set_device(self.rank)
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
            # numbers travel beside the device's queue, so that nobody waits for the GPU
            self.numbers = torch.distributed.new_group(backend="gloo")

    def agree(self, value: float) -> float:
        """The leader's number."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        torch.distributed.broadcast(told, 0, group=self.numbers)
        return float(told)

    def same_weights(self, parameters):
        for p in parameters if self.size > 1 else ():
            torch.distributed.broadcast(p.data, 0)

    def mean_gradients(self, parameters):
        if self.size == 1:
            return
        some = [p.grad for p in parameters if p.grad is not None]
        flat = torch._utils._flatten_dense_tensors(some)
        torch.distributed.all_reduce(flat)
        for grad, mean in zip(some, torch._utils._unflatten_dense_tensors(flat / self.size, some)):
            grad.copy_(mean)

    def leave(self):
        if self.size > 1:
            torch.distributed.destroy_process_group()


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


def settle(device, rank=0):
    torch.manual_seed(1 + rank)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    if device == "cuda":
        import torch._dynamo as dynamo

        dynamo.config.cache_size_limit = 64
        # a function that does not compile runs as it is: the time on the device is worth more than the speed
        dynamo.config.suppress_errors = True
