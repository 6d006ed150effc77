"""Random generators: each purpose for which a run draws numbers has a generator of its own, derived from the seed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_sequence(seed: int, purpose: str, *more: int) -> np.random.SeedSequence:
    """The seed of a generator, hashed from a run's seed, a purpose, and ``more`` numbers such as the round.

    As they are hashed and not added, neighbouring seeds and rounds give independent streams. NumPy ignores zeros at the
    end: for one purpose, the number 0 is the same as none.
    """
    return np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *more])


def numpy_generator(seed: int, purpose: str, *more: int) -> np.random.Generator:
    """NumPy's generator of a `seed_sequence`."""
    return np.random.default_rng(seed_sequence(seed, purpose, *more))


def torch_generator(seed: int, purpose: str, *more: int) -> torch.Generator:
    """PyTorch's generator of a `seed_sequence`, on the CPU, so that a run draws the same numbers on every device."""
    import torch  # imported here, so that programs that need only NumPy's generators do not load it

    state = seed_sequence(seed, purpose, *more).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
