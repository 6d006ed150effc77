"""The expected calibration error against a brute-force count, and what follows from its definition."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib.calibration import calibration_error


def brute_force(confidence: list[float], correct: list[bool], bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i, c in enumerate(confidence) if b / bins < c <= (b + 1) / bins]
        if inside:
            accuracy = sum(correct[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total


# Quarters of a bin, exact in float32 for 16 bins, so that the borders themselves are tried.
predictions = st.lists(st.tuples(st.integers(1, 64).map(lambda k: k / 64), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(predictions, st.sampled_from([1, 2, 4, 16]))
def test_it_is_the_brute_force_count_borders_included(predictions, bins):
    confidence, correct = zip(*predictions, strict=True)
    found = calibration_error(torch.tensor([confidence]), torch.tensor([correct]), bins)
    assert abs(float(found) - brute_force(confidence, correct, bins)) < 1e-12


def test_fifteen_bins_of_random_predictions_a_value_a_run():
    rng = np.random.default_rng(0)
    confidence, correct = rng.uniform(0.1, 1, (3, 500)).astype(np.float32), rng.random((3, 500)) < 0.6
    found = calibration_error(torch.from_numpy(confidence), torch.from_numpy(correct))
    expected = [brute_force(c.astype(float), k, 15) for c, k in zip(confidence, correct, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_certain_predictions_that_are_wrong_have_the_whole_error_and_right_ones_none():
    sure = torch.ones(1, 8)
    assert calibration_error(sure, torch.zeros(1, 8, dtype=torch.bool)) == 1
    assert calibration_error(sure, torch.ones(1, 8, dtype=torch.bool)) == 0


def test_without_samples_or_with_a_diverged_network_it_is_not_a_number():
    assert calibration_error(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).isnan().all()
    found = calibration_error(torch.tensor([[0.5, torch.nan], [0.5, 0.5]]), torch.ones(2, 2, dtype=torch.bool))
    assert found[0].isnan() and found[1] == 0.5
