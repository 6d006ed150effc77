"""Distances, straight paths and normalised directions: by hand and by algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsdlib.geometry import between, filter_normalised, learning_distance, sharpness


def test_the_distance_of_weights_is_the_euclidean_norm_of_all_or_of_parts():
    initial = torch.tensor([[3.0, 4.0, 1.0], [1.0, 1.0, 1.0]])
    trained = torch.tensor([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    assert learning_distance(initial, trained).tolist() == pytest.approx([5.0, 5**0.5])
    parts = learning_distance(initial, trained, [1, 2])
    assert parts.tolist() == [pytest.approx([3, 4]), pytest.approx([0, 5**0.5])]


@given(st.integers(0, 99), st.integers(1, 9))
def test_a_path_has_exact_ends_and_even_steps(seed: int, steps: int) -> None:
    one, other = torch.randn(2, 7, generator=torch.Generator().manual_seed(seed))
    points = between(one, other, torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    assert torch.equal(points[0], one) and torch.equal(points[-1], other)
    torch.testing.assert_close(points.diff(dim=0), ((other - one) / steps).expand(steps, -1), atol=1e-6, rtol=1e-4)


def test_each_filter_of_a_normalised_direction_has_the_norm_of_the_weights_own() -> None:
    shapes = [torch.Size(s) for s in ((3, 2, 2, 2), (3,), (2, 4), (2,))]
    direction, weights = torch.randn(2, 24 + 3 + 8 + 2, generator=torch.Generator().manual_seed(0))
    found = filter_normalised(direction, weights, shapes).split([24, 3, 8, 2])
    drawn, own = direction.split([24, 3, 8, 2]), weights.split([24, 3, 8, 2])
    for part in (0, 2):
        rows = shapes[part][0]
        a, b, c = (v[part].view(rows, -1) for v in (found, drawn, own))
        torch.testing.assert_close(a.norm(dim=1), c.norm(dim=1))
        torch.testing.assert_close(torch.cosine_similarity(a, b), torch.ones(rows))
    assert not found[1].any() and not found[3].any()
    torch.testing.assert_close(filter_normalised(9 * direction, weights, shapes), torch.cat(found))


def test_a_quadratics_sharpness_is_half_its_curvature_times_the_mean_square_of_the_offsets() -> None:
    offsets = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])  # mean square 0.5
    curvature, bottom = np.array([[2.0], [6.0]]), 7.0
    losses = bottom + curvature / 2 * offsets**2
    assert sharpness(offsets, losses).tolist() == pytest.approx([0.5, 1.5])
    assert sharpness(offsets, losses + 3 * offsets).tolist() == pytest.approx([0.5, 1.5])  # a linear term adds nothing
    assert sharpness(offsets, np.full((1, 5), bottom)).tolist() == [0]
