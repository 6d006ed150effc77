"""Random generators: every draw of a run has its own, derived from the seed and what the draw is for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_sequence(seed: int, purpose: str, *more: int) -> np.random.SeedSequence:
    """Hashed, not added: neighbouring seeds, purposes and rounds give independent streams."""
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *more])


def numpy_generator(seed: int, purpose: str, *more: int) -> np.random.Generator:
    return np.random.default_rng(seed_sequence(seed, purpose, *more))


def torch_generator(seed: int, purpose: str, *more: int) -> torch.Generator:
    """On the CPU, so that a run draws the same numbers whatever device it trains on."""
    import torch  # here, so that numpy's generators can be had without it

    state = seed_sequence(seed, purpose, *more).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
