"""The data behind a figure: what was drawn, with the numbers on the axes and no others."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from dsdlib import plots

pytestmark = pytest.mark.usefixtures("closed_figures")


def table():
    """Three seeds of two criteria over four rounds."""
    rng = np.random.default_rng(0)
    rows = [
        {"criterion": kind, "seed": seed, "sparsity": s, "test_accuracy": rng.uniform()}
        for kind in ("magnitude", "random")
        for seed in range(3)
        for s in (0.0, 0.36, 0.59, 0.74)
    ]
    return pd.DataFrame(rows)


def test_the_curves_drawn_are_the_means_on_the_axes_with_their_seeds():
    ax = plots.curves(table(), "criterion")
    data = plots.drawn(ax.figure)
    assert list(data) == ["series", "measure", "sparsity", "mean", "count", "low", "high"]
    for line, (series, part) in zip(ax.lines, data.groupby("series"), strict=True):
        assert line.get_label() == series and set(part["count"]) == {3}
        np.testing.assert_allclose(np.column_stack(line.get_data()), part[["sparsity", "mean"]])
    assert (data["low"] < data["mean"]).all() and (data["mean"] < data["high"]).all()


def test_each_panel_is_named_and_a_lower_row_takes_the_title_above_it():
    draws = [lambda part, ax, y=y: plots.curves(part, "criterion", y, ax=ax) for y in ("test_accuracy", "sparsity")]
    figure, _ = plots.panels(table().groupby("seed"), *draws, title="seed {}")
    data = plots.drawn(figure)
    found = data.groupby(["panel", "measure"]).size()
    assert dict(found) == {(f"seed {n}", y): 8 for n in range(3) for y in ("test_accuracy", "sparsity")}


def test_valleys_are_given_with_every_column_and_a_figure_of_other_makes_has_no_data():
    valleys = pd.DataFrame({"noise_rate": [0.2, 0.5], "depth": [0, 0.1], "low": [0, 0.05], "high": [0.02, 0.2]})
    valleys["raw_depth"] = [-0.01, 0.1]
    ax = plots.depths(valleys, "noise_rate")
    pd.testing.assert_frame_equal(plots.drawn(ax.figure), valleys)
    assert plots.drawn(plt.subplots()[0]).empty
