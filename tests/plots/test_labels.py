"""Names at the ends of curves."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from dsdlib import plots
from dsdlib.plots.labels import spread


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 0.2))
def test_places_keep_their_distance_and_their_order(places, gap):
    found = spread(places, gap)
    assert (np.diff(np.sort(found)) >= gap - 1e-9).all() and found.min() >= -1e-9
    order = np.argsort(places, kind="stable")
    assert (np.diff(found[order]) > 0).all()


def test_places_with_room_stay_and_two_that_are_too_close_move_apart_evenly():
    assert spread([0.5, 0.1, 0.9], 0.1) == pytest.approx([0.5, 0.1, 0.9])
    assert spread([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
    assert spread([0.0, 0.0], 0.1) == pytest.approx([0.0, 0.1])


def drawn(*ends, legend=True):
    figure, ax = plt.subplots(layout="constrained")
    for n, end in enumerate(ends):
        ax.plot([0, 1], [0, end], label=f"curve {n}")
    if legend:
        ax.legend(title="Which", loc="upper left", bbox_to_anchor=(1, 1))
    plots.label_curves(figure)
    figure.draw_without_rendering()
    return ax


def test_names_stand_at_the_ends_and_do_not_overlap():
    ax = drawn(1.0, 0.5, 0.49, 0.48)
    assert ax.get_legend() is None
    texts = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert set(texts) == {"Which", "curve 0", "curve 1", "curve 2", "curve 3"}
    boxes = list(texts.values())
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    middle = ax.transData.transform((1, 1.0))[1]
    assert texts["curve 0"].y0 < middle < texts["curve 0"].y1 and texts["curve 0"].x0 > ax.get_window_extent().x1
    assert ax.get_xlim() == pytest.approx((-0.05, 1.05)) and ax.get_ylim()[1] < 1.1  # axes keep their limits
    plt.close("all")


def test_a_legend_stays_where_there_is_no_curve_to_name_or_there_are_too_many():
    assert drawn(*range(9)).get_legend() is not None
    figure, ax = plt.subplots()
    ax.plot([], [], "s", label="a marker")
    ax.legend()
    plots.label_curves(figure)
    assert ax.get_legend() is not None
    assert not drawn(1.0, legend=False).texts
    figure, ax = plt.subplots()
    ax.bar([], [], label="no bar")
    ax.legend()
    plots.label_curves(figure)
    assert ax.get_legend() is not None
    plt.close("all")
