"""Figures over the width of a network: lines are means over seeds, published points lie where they were read."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color

from dsdlib import plots
from dsdlib.analysis import published

pytestmark = pytest.mark.usefixtures("closed_figures")

WIDTHS = (1, 5, 8, 50)
NAMES = ("dense", "pruned s=5, retrained", "pruned s=8, retrained")


@pytest.fixture
def table():
    """A row a series, width and seed, every error a number of its own; a pruned series begins at its own width."""
    rng = np.random.default_rng(0)
    first = {name: 0 if name == "dense" else int(name[9]) for name in NAMES}
    rows = [
        {"series": name, "width": width, "seed": seed, "test_error": rng.uniform(), "train_accuracy": rng.uniform()}
        for name in NAMES
        for width in WIDTHS
        if width >= first[name]
        for seed in range(3)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().texts]


@pytest.mark.parametrize(("measure", "label"), [("test_error", "Test error (%)"), ("train_accuracy", "Train (%)")])
def test_a_line_a_series_is_the_mean_over_seeds_in_its_colour(table, measure, label):
    colours = plots.shades(NAMES)
    ax = plots.widths(table, colours, measure, label)
    assert labels(ax) == list(NAMES) and ax.get_ylabel() == label
    for (line, _, (bars,)), (name, colour) in zip(ax.containers, colours.items(), strict=True):
        assert len(bars.get_segments()) == len(table.loc[table["series"] == name, "width"].unique())
        mean = table[table["series"] == name].groupby("width")[measure].mean()
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([mean.index, mean]))
        assert same_color(line.get_color(), colour)


def test_only_the_series_that_have_a_colour_are_drawn_on_the_axes_that_are_given(table):
    _, ax = plt.subplots()
    assert plots.widths(table, {NAMES[1]: "red"}, ax=ax) is ax
    assert len(ax.containers) == 1 and labels(ax) == [NAMES[1]]


def test_widths_are_spread_by_doublings_and_written_plainly(table):
    ax = plots.widths(table, plots.shades(NAMES))
    assert ax.get_xscale() == "log"
    assert [ax.xaxis.get_major_formatter()(width, 0) for width in (1, 16, 256)] == ["1", "16", "256"]
    assert ax.yaxis.get_major_formatter()(0.25, 0) == "25"


def test_shades_are_ink_and_then_a_colour_each():
    colours = plots.shades(["dense", 5, 8, 10])
    assert list(colours) == ["dense", 5, 8, 10] and colours["dense"] == plots.INK
    assert len(set(colours.values())) == 4


def test_a_marked_width_is_a_named_line_from_bottom_to_top(table):
    ax = plots.widths(table, {"dense": "black"})
    plots.mark_width(ax, 8, "labels fitted")
    assert ax.lines[-1].get_xydata().tolist() == [[8, 0], [8, 1]]
    assert [text.get_text() for text in ax.texts] == ["labels fitted"] and ax.texts[0].get_position()[0] == 8


def test_published_points_stand_at_their_widths_with_their_reading_error(table):
    points = published.figure("chang2021provable/Fig. 1/cifar10", axis="width", series=NAMES)
    ax = plots.widths(table, plots.shades(NAMES))
    plots.beside(ax, points, {"dense": plots.INK}, x="width")
    *_, bars = ax.containers
    theirs = points[points["series"] == "dense"]
    np.testing.assert_allclose(bars.lines[0].get_xydata(), theirs[["width", "value"]])
    reach = np.array(bars.lines[2][0].get_segments())[:, :, 1]
    np.testing.assert_allclose(np.diff(reach, axis=1)[:, 0] / 2, 0.005)
    assert labels(ax) == [*NAMES, "Published: dense"]
