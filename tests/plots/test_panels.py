"""Panels: which part is drawn where, what is shared, and which legends are left."""

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from dsdlib import plots

pytestmark = pytest.mark.usefixtures("closed_figures")


def draw_names(names, ax, label="Accuracy"):
    """A line of its own colour for each name, and a legend."""
    for name, colour in names.items():
        ax.plot([0, 1], [0, len(names)], color=colour, label=name)
    ax.set(xlabel="Sparsity", ylabel=label)
    ax.legend(title="Kind")


def labels(ax):
    legend = ax.get_legend()
    return None if legend is None else [text.get_text() for text in legend.texts]


def test_a_row_of_panels_has_a_title_each_and_one_legend_and_one_label():
    parts = {0.2: {"a": "red", "b": "blue"}, 0.5: {"b": "blue", "c": "green"}}
    figure, axes = plots.panels(parts, draw_names, title="{:.0%} noise", size=(3, 2))
    assert axes.shape == (1, 2) and figure.get_size_inches().tolist() == [6, 2]
    left, right = axes[0]
    assert [ax.get_title() for ax in axes[0]] == ["20% noise", "50% noise"]
    assert [[line.get_label() for line in ax.lines] for ax in axes[0]] == [["a", "b"], ["b", "c"]]
    assert labels(left) is None and labels(right) == ["a", "b", "c"]
    assert right.get_legend().get_title().get_text() == "Kind"
    assert (left.get_ylabel(), right.get_ylabel()) == ("Accuracy", "") and left.get_ylim() == right.get_ylim()
    assert figure.get_supxlabel() == "Sparsity" and [ax.get_xlabel() for ax in axes[0]] == ["", ""]


@pytest.mark.parametrize(
    "other",
    [{"a": "blue", "b": "red"}, {"c": "red", "d": "blue"}, {"c": "green", "d": "black"}],
    ids=["a label has two styles", "a style has two labels", "no label is in both"],
)
def test_panels_in_which_styles_mean_different_things_keep_their_own_legends(other):
    _, axes = plots.panels({"one": {"a": "red", "b": "blue"}, "two": other}, draw_names)
    assert [labels(ax) for ax in axes[0]] == [["a", "b"], list(other)]


def test_panels_whose_legends_have_different_titles_keep_them():
    table = pd.DataFrame(
        {"sparsity": [0, 0.2] * 2, "test_accuracy": [0.5, 0.6] * 2, "noise_rate": [0.2, 0.2, 0.5, 0.5]}
    )
    by = {"By noise": "noise_rate", "By kind": "retraining"}
    table["retraining"] = ["finetune", "finetune", "reinit", "reinit"]
    _, axes = plots.panels(by, lambda hue, ax: plots.curves(table, hue, ax=ax))
    assert [ax.get_legend().get_title().get_text() for ax in axes[0]] == ["Noise rate", "Retraining"]
    assert [len(labels(ax)) for ax in axes[0]] == [2, 2]


def test_groups_make_a_panel_each_and_several_drawings_a_row_each():
    table = pd.DataFrame({"Network": ["x", "x", "y"], "value": [1, 2, 5]})
    seen = []

    def upper(part, ax):
        seen.append(part["value"].tolist())
        ax.plot(part["value"])
        ax.set(xlabel="Round", ylabel="Upper")

    def lower(part, ax):
        ax.plot(part["value"] + 10)
        ax.set(xlabel="Round", ylabel="Lower")

    figure, axes = plots.panels(table.groupby("Network"), upper, lower)
    assert seen == [[1, 2], [5]] and axes.shape == (2, 2)
    assert [[ax.get_ylabel() for ax in row] for row in axes] == [["Upper", ""], ["Lower", ""]]
    assert [[ax.get_title() for ax in row] for row in axes] == [["x", "y"], ["", ""]]
    assert axes[0, 0].get_shared_x_axes().joined(*axes[:, 0]) and not axes[0, 0].get_shared_x_axes().joined(*axes[0])
    assert axes[0, 0].get_ylim() == axes[0, 1].get_ylim() != axes[1, 0].get_ylim()
    assert figure.get_supxlabel() == "Round"


def test_axes_that_differ_keep_their_labels():
    measures = {"A": "Accuracy", "L": "Loss"}
    figure, axes = plots.panels(measures, lambda label, ax: draw_names({"a": "red"}, ax, label), sharey=False)
    assert [ax.get_ylabel() for ax in axes[0]] == ["Accuracy", "Loss"] and figure.get_supxlabel() == "Sparsity"
    assert not axes[0, 0].get_shared_y_axes().joined(*axes[0])
    figure, axes = plots.panels(measures, lambda label, ax: ax.set_xlabel(label))
    assert [ax.get_xlabel() for ax in axes[0]] == ["Accuracy", "Loss"] and figure.get_supxlabel() == ""
    figure, axes = plots.panels({"alone": 0}, lambda part, ax: ax.set_xlabel("Round"))
    assert axes.shape == (1, 1) and axes[0, 0].get_xlabel() == "Round"


def test_a_figures_functions_are_drawn_as_they_are():
    table = pd.DataFrame({"sparsity": [0, 0.2], "test_accuracy": [0.5, 0.6], "train_accuracy": [0.9, 0.8]})
    figure, axes = plots.panels({"one": table, "two": table}, plots.parts)
    assert labels(axes[0, 0]) is None and labels(axes[0, 1]) == ["Test", "Train (noisy labels)"]
    assert len(plt.get_fignums()) == 1 and figure.axes == list(axes[0])
