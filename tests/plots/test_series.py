"""Series that appear in several figures have one name and one style, and no two of a group are alike."""

from itertools import combinations

import pandas as pd
import pytest
from matplotlib import colors

from dsdlib import plots
from dsdlib.analysis import stopping
from dsdlib.config import RunConfig
from dsdlib.plots.series import SERIES, series_style, series_styles

pytestmark = pytest.mark.usefixtures("closed_figures")


def choices(field):
    """The values that a field of RunConfig allows."""
    return RunConfig.model_fields[field].annotation.__args__


GROUPS = {
    "retraining": choices("retraining"),
    "criteria": choices("criterion"),
    "noise": ("symmetric", "uniform", "pairflip", "asymmetric"),
    "teachers": ("no teacher", "dense teacher", "best-fit teacher", "no teacher, teacher's weight decay"),
    "families": ("mlp", "vgg_like"),
    "ways": ("global", "layer by layer", "one-shot"),
    "rules": stopping.RULES,
    "pruned": ("dense", "retrained", "no retraining", "random, retrained"),
}


def seen(colour, blindness):
    """A colour as readers without one kind of cone see it (Viénot et al. 1999), in linear RGB."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(colour))
    if blindness == "deutan":
        return (0.29 * r + 0.71 * g, 0.29 * r + 0.71 * g, b - 0.02 * r + 0.02 * g)
    return (0.11 * r + 0.89 * g, 0.11 * r + 0.89 * g, b)


@pytest.mark.parametrize("group", GROUPS)
def test_series_of_a_group_differ_in_colour_line_and_marker(group):
    members = [SERIES[name] for name in GROUPS[group]]
    for part in ("label", "colour", "line", "marker"):
        assert len({getattr(member, part) for member in members}) == len(members), part


@pytest.mark.parametrize("blindness", ["deutan", "protan"])
@pytest.mark.parametrize("group", GROUPS)
def test_colours_differ_for_colour_blind_readers(group, blindness):
    for one, other in combinations(GROUPS[group], 2):
        pair = [seen(SERIES[name].colour, blindness) for name in (one, other)]
        assert sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 > 0.08, (one, other)


def test_a_series_is_found_by_its_name_and_by_its_label():
    assert series_style("lr_rewinding") == series_style("Learning-rate rewinding") == SERIES["lr_rewinding"]
    assert series_style("Fully connected") == SERIES["mlp"] and series_style("VGG-like") == SERIES["vgg_like"]
    assert series_style("of no other figure") is None and series_style(0.2) is None


@pytest.mark.parametrize("names", [["reinit", "lr_rewinding"], ["Re-initialisation", "Learning-rate rewinding"]])
def test_a_retraining_kind_is_called_and_drawn_the_same_in_every_figure(names):
    rows = [
        {"Retraining": name, "seed": s, "round": r, "sparsity": r / 4, "test_accuracy": (s + r) / 10, "epoch": r}
        for name in names
        for s in range(3)
        for r in range(4)
    ]
    table = pd.DataFrame(rows)
    figures = [
        plots.curves(table, "Retraining"),
        plots.lines(table, "epoch", "test_accuracy", "Retraining", "Epoch", "Test accuracy (%)"),
    ]
    for ax in figures:
        assert [text.get_text() for text in ax.get_legend().texts] == ["re-initialisation", "learning-rate rewinding"]
        drawn = [line.get_color() for line in ax.lines]
        assert drawn == [SERIES["reinit"].colour, SERIES["lr_rewinding"].colour]


def test_other_names_get_colours_and_lines_that_are_not_in_use():
    names = ["x", "no teacher", "y", "best-fit teacher", "z"]
    found = series_styles(pd.Series(names, name="Student"))
    assert list(found) == names and [found[name].label for name in names] == names
    assert len({own.colour for own in found.values()}) == 5
    assert len({found[name].line for name in "xyz"}) == 3


@pytest.mark.parametrize(
    ("name", "values", "labels"),
    [("noise_rate", [0.5, 0.0, 0.2], ["0%", "20%", "50%"]), ("weight_decay", [0.01, 1e-4], ["0.0001", "0.01"])],
)
def test_numbers_are_in_order_and_written_as_they_are_spoken_of(name, values, labels):
    found = series_styles(pd.Series(values, name=name))
    assert list(found) == sorted(values) and [own.label for own in found.values()] == labels
