"""Every purpose, round and seed has random numbers of its own, and always the same ones."""

from itertools import combinations

import numpy as np
import torch

from dsdlib.seeding import numpy_generator, torch_generator

PURPOSES = ("split", "noise train", "noise validation", "initialisation", "order", "criterion", "direction")
DRAWS = [(seed, purpose, *more) for seed in (0, 1, 2, 2**62) for purpose in PURPOSES for more in ((), (1,), (2,))]


def test_all_streams_differ_and_are_uncorrelated():
    for draw in (
        lambda *key: numpy_generator(*key).random(400),
        lambda *key: torch.rand(400, generator=torch_generator(*key)).numpy(),
    ):
        streams = np.stack([draw(*key) for key in DRAWS])
        assert len({stream.tobytes() for stream in streams}) == len(DRAWS)
        correlations = np.corrcoef(streams)[np.triu_indices(len(DRAWS), 1)]
        assert np.abs(correlations).max() < 6 / np.sqrt(400)
        assert abs(correlations.mean()) < 0.01


def test_neighbouring_seeds_streams_are_not_one_stream_shifted():
    streams = [numpy_generator(seed, "noise train").random(200) for seed in range(4)]
    for one, other in combinations(streams, 2):
        for shift in range(-3, 4):
            assert not np.isclose(one, np.roll(other, shift)).any()


def test_the_same_key_is_the_same_stream_whatever_was_drawn_before_and_these_streams_never_change():
    torch.rand(3)
    np.random.seed(1)
    assert torch.equal(
        torch.rand(9, generator=torch_generator(5, "order", 2)), torch.rand(9, generator=torch_generator(5, "order", 2))
    )
    # These numbers are what published runs were made with.
    assert numpy_generator(0, "split").integers(2**31) == 574_714_661
    assert torch_generator(3, "order", 1).initial_seed() == 1_613_809_417_759_251_653
