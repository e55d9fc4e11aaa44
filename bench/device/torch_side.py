"""What the scripts beside this one share: where torch computes, its clock, and waiting for a card."""

import time
from pathlib import Path

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALF = torch.float16 if DEVICE == "cuda" else torch.float32
ROOT = Path(__file__).resolve().parents[2]
STARTED = time.perf_counter()


def say(text: str) -> None:
    print(f"{time.perf_counter() - STARTED:7.1f} s  {text}", flush=True)


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
