"""How people write about the pocket worlds; README.md."""

from .grammar import Caption, bag, compose, unsaid

__all__ = ["Caption", "bag", "compose", "unsaid"]
